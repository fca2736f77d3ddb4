"""Data from files: whatever is wrong is one message that names the place and what belongs there."""

from __future__ import annotations

import copy
import dataclasses
import json
import random
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta
from typing_extensions import NotRequired, TypedDict

from tvm_eff import strict
from tvm_eff.errors import Error
from tvm_eff.strict import Count, Finite

WHERE = Path("data/sample.json")
ADVICE = "write it again"


class SampleError(Error):
    """Raised for whatever is wrong with a sample."""


Labels = TypedDict("Labels", {"the-name": str, "colour": NotRequired[Literal["red", "green"]]})


@dataclass(frozen=True)
class Tensor:
    name: Annotated[str, Meta(pattern=r"\A\w+\Z", description="a word")]
    shape: tuple[Count, ...]


@dataclass(frozen=True)
class Range:
    first: int
    last: Annotated[int, Meta(ge=1, le=9)]

    def __post_init__(self) -> None:
        if self.first > self.last:
            raise ValueError(f"the first is {self.first}, behind the last, {self.last}")


@dataclass(frozen=True)
class Sample:
    tensors: tuple[Tensor, ...]
    weights: Mapping[str, Finite]
    labels: Labels
    span: Range
    pair: tuple[int, str]
    power: Annotated[Literal[8, 16], Meta(description="8 or 16, a power of two")]
    unit: Literal["seconds", "instructions"] = "seconds"
    flag: bool | None = None
    either: str | Count = 0
    anything: Any = None
    defaults: dict[str, str] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)


class Point(msgspec.Struct, frozen=True, rename={"across": "the-x"}):
    across: Count
    down: Finite = 0.0


@dataclass(frozen=True)
class Chain:
    rest: Chain | None = None


VALID: dict[str, Any] = {
    "tensors": [{"name": "x", "shape": [1, 3]}, {"name": "y", "shape": []}],
    "weights": {"a": 1.5, "b.c": 2},
    "labels": {"the-name": "n"},
    "span": {"first": 2, "last": 3},
    "pair": [1, "one"],
    "power": 8,
}
BIG = 10**400


def converted(data: object, complete: bool = False) -> Sample:
    return strict.convert(
        data, Sample, where=WHERE, error=SampleError, advice=ADVICE, complete=complete
    )


def changed(*steps: Any) -> dict[str, Any]:
    """Return valid data with the value behind the keys replaced by the last of the `steps`."""
    *keys, last, value = steps
    data = copy.deepcopy(VALID)
    part: Any = data
    for key in keys:
        part = part[key]
    part[last] = value
    return data


def message(data: object, complete: bool = False) -> str:
    """Return what is said of wrong data, between the file's name and the advice."""
    with pytest.raises(SampleError) as caught:
        converted(data, complete)
    text = str(caught.value)
    assert text.startswith(f"{WHERE}: ")
    assert text.endswith(f"; {ADVICE}")
    return text.removeprefix(f"{WHERE}: ").removesuffix(f"; {ADVICE}")


def decoding(content: bytes) -> str:
    with pytest.raises(SampleError) as caught:
        strict.decode_json(content, where=WHERE, error=SampleError, advice=ADVICE)
    return str(caught.value)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (changed("tensor", []), "unknown key 'tensor'; did you mean 'tensors'?"),
        (changed("tensors", 1, "shap", []), "unknown key 'tensors[1].shap'; did you mean 'shape'?"),
        (changed("span", "zzz", 1), "unknown key 'span.zzz'; known: first, last"),
        (changed("labels", "color", "red"), "unknown key 'labels.color'; did you mean 'colour'?"),
        (
            changed("tensors", 0, {"shape": []}),
            "the key 'tensors[0].name' is missing; expected a word",
        ),
        (changed("labels", {}), "the key 'labels.the-name' is missing; expected a string"),
        (
            changed("span", {"first": 1, "lsat": 2}),
            "the key 'span.last' is missing (is 'lsat' a misspelling?); "
            "expected an integer from 1 to 9",
        ),
        (
            changed("points", [{"the-x": 1, "donw": 2}]),
            "unknown key 'points[0].donw'; did you mean",
        ),
        (
            changed("points", [{"across": 1}]),
            "the key 'points[0].the-x' is missing; expected an int",
        ),
        ({}, "the key 'tensors' is missing; expected a list"),
    ],
)
def test_wrong_key(data: object, expected: str) -> None:
    assert message(data).startswith(expected)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (3, "the content is 3; expected an object"),
        ([VALID], "the content is [{'labels': {'the-name': 'n'}, "),
        (changed("tensors", {}), "'tensors' is {}; expected a list"),
        (changed("tensors", 0, 7), "'tensors[0]' is 7; expected an object"),
        (
            changed("tensors", 0, "shape", [1, "3"]),
            "'tensors[0].shape[1]' is '3'; expected an integer",
        ),
        (
            changed("tensors", 0, "shape", [1, -3]),
            "'tensors[0].shape[1]' is -3; expected an integer",
        ),
        (changed("tensors", 0, "name", "x y"), "'tensors[0].name' is 'x y'; expected a word"),
        (changed("tensors", 0, "name", "x\n"), "'tensors[0].name' is 'x\\n'; expected a word"),
        (changed("weights", []), "'weights' is []; expected an object"),
        (changed("weights", "b.c", "1"), "'weights.b.c' is '1'; expected a finite number"),
        (changed("labels", "the-name", None), "'labels.the-name' is None; expected a string"),
        (
            changed("labels", "colour", "greem"),
            "'labels.colour' is 'greem'; expected \"red\" or \"green\"; did you mean 'green'",
        ),
        (changed("unit", "m"), "'unit' is 'm'; expected \"seconds\" or \"instructions\""),
        (changed("span", None), "'span' is None; expected an object"),
        (changed("span", "last", 10), "'span.last' is 10; expected an integer from 1 to 9"),
        (changed("span", "first", 4), "'span': the first is 4, behind the last, 3"),
        (changed("pair", [1, 2]), "'pair[1]' is 2; expected a string"),
        (changed("pair", [1]), "'pair' is [1]; expected a list of 2"),
        (changed("power", 9), "'power' is 9; expected 8 or 16, a power of two"),
        (changed("power", 16.0), "'power' is 16.0; expected 8 or 16, a power of two"),
        (changed("flag", 1), "'flag' is 1; expected true or false"),
        (changed("either", 1.5), "'either' is 1.5; expected a string or an integer"),
        (changed("points", [{"the-x": -1}]), "'points[0].the-x' is -1; expected an integer"),
        (changed("defaults", {"a": 1}), "'defaults.a' is 1; expected a string"),
    ],
)
def test_wrong_value(data: object, expected: str) -> None:
    assert message(data).startswith(expected)


@pytest.mark.parametrize("path", ["tensors[0].shape[1]", "span.first", "span.last"])
def test_true_is_no_integer(path: str) -> None:
    keys = path.replace("[", ".").replace("]", "").split(".")
    steps = [int(key) if key.isdigit() else key for key in keys]
    assert message(changed(*steps, True)).startswith(f"'{path}' is True; expected an integer")


def test_true_is_no_number() -> None:
    assert message(changed("weights", "a", True)) == "'weights.a' is True; expected a finite number"


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", f"{BIG}"])
def test_number_that_is_not_finite(text: str) -> None:
    content = json.dumps(VALID).replace("1.5", text).encode()
    data = strict.decode_json(content, where=WHERE, error=SampleError)
    said = message(data)
    assert said.startswith("'weights.a' is ")
    assert said.endswith("; expected a finite number")


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 2**64, BIG])
def test_integer_beyond_64_bits(value: int) -> None:
    data = strict.decode_json(json.dumps([value]).encode(), where=WHERE, error=SampleError)
    said = message(changed("tensors", 0, "shape", data))
    assert said.startswith("'tensors[0].shape[0]' is ")
    assert "expected an integer from 0, of 64 bits" in said
    assert message(changed("span", "last", value)).endswith("expected an integer from 1 to 9")
    assert "'either' is " in message(changed("either", value))


def test_integer_that_python_refuses_to_print() -> None:
    """TOML's hexadecimal numbers may have any length."""
    said = message(changed("span", "last", 1 << 30_000))
    assert said == "'span.last' is an integer of 30001 bits; expected an integer from 1 to 9"


def test_integer_that_python_refuses_to_read() -> None:
    assert "is damaged: Exceeds the limit" in decoding(b"1" * 10_000)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"a": 1, "b": 2, "a": 3}', "the key 'a' stands twice in one object"),
        (b'[{"x": {"n": 1, "n": 1}}]', "the key 'n' stands twice in one object"),
        (b'{"a": 1', "Expecting ',' delimiter"),
        (b"", "Expecting value"),
        (b'{"a": "\xff"}', "can't decode byte 0xff"),
        (b"\xef\xbb\xbf{}", "BOM"),
    ],
)
def test_damaged_json(content: bytes, expected: str) -> None:
    said = decoding(content)
    assert said.startswith(f"{WHERE} is damaged: ")
    assert expected in said
    assert said.endswith(f"; {ADVICE}")


@pytest.mark.parametrize("content", [b"[" * 200_000, b'{"a":' * 200_000])
def test_json_nested_too_deeply(content: bytes) -> None:
    assert decoding(content) == f"{WHERE} is nested too deeply; {ADVICE}"


def test_data_nested_too_deeply() -> None:
    chain: dict[str, Any] = {}
    for _ in range(100_000):
        chain = {"rest": chain}
    with pytest.raises(SampleError, match="is nested too deeply; write it again"):
        strict.convert(chain, Chain, where=WHERE, error=SampleError, advice=ADVICE)
    said = message(changed("span", chain))
    assert said.startswith("the key 'span.first' is missing")
    assert message(changed("unit", chain)).startswith("'unit' is {'rest': {'rest': ")


def test_fault_deep_in_data() -> None:
    chain: dict[str, Any] = {"rest": {"rset": None}}
    with pytest.raises(SampleError, match=r"unknown key 'rest\.rset'; did you mean 'rest'\?$"):
        strict.convert(chain, Chain, where=WHERE, error=SampleError)


@pytest.mark.parametrize(
    "data",
    [
        changed("\ud800", 1),
        changed("span", "\ud800", 1),
        changed("unit", "\ud800"),
        changed("span", "last", "\ud800"),
        changed("labels", "\ud800", "n"),
    ],
)
def test_text_that_is_no_unicode(data: object) -> None:
    assert r"\ud800" in message(data).encode("utf-8").decode()


def test_long_values_are_shown_shortly() -> None:
    assert len(message(changed("unit", "long " * 1000))) < 160
    assert len(message(changed("unit", [[["long " * 1000] * 1000] * 1000]))) < 160


def test_complete_data_has_every_key() -> None:
    assert converted(VALID).unit == "seconds"
    assert message(VALID, complete=True) == (
        'the key \'unit\' is missing; expected "seconds" or "instructions"'
    )
    given = {**VALID, "unit": "instructions", "flag": None, "either": "x", "anything": [1]}
    assert message(given, complete=True) == "the key 'defaults' is missing; expected an object"
    given |= {"defaults": {}, "points": [{"the-x": 1}]}
    assert message(given, complete=True).startswith("the key 'points[0].down' is missing")
    given |= {"points": [{"the-x": 1, "down": 2}]}
    assert converted(given, complete=True).points == [Point(1, 2.0)]


def test_line_of_a_file_without_advice() -> None:
    with pytest.raises(SampleError, match=r"^log\.json, line 3: the content is None; expected an"):
        strict.convert(None, Sample, where="log.json, line 3", error=SampleError)


def test_right_data() -> None:
    found = converted(VALID)
    assert found.tensors == (Tensor("x", (1, 3)), Tensor("y", ()))
    assert dict(found.weights) == {"a": 1.5, "b.c": 2.0}
    assert found.labels == {"the-name": "n"}
    assert (found.span, found.pair, found.power) == (Range(2, 3), (1, "one"), 8)
    assert (found.flag, found.either, found.defaults) == (None, 0, {})
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.power = 16  # type: ignore[misc]


def test_whatever_is_wrong_is_this_error() -> None:
    """Odd values in the place of any part, or in a new key, are converted or refused."""
    odd: list[Any] = [None, True, -1, 2**70, BIG, float("nan"), ""]
    odd += ["\ud800", [], [[]], {}, {"": {}}, 1.5, "x"]
    chance = random.Random(0)
    refused = 0
    for _ in range(3000):
        data = copy.deepcopy(VALID)
        part: Any = data
        while True:
            keys = list(part) if isinstance(part, dict) else list(range(len(part)))
            key = chance.choice([*keys, "new"] if isinstance(part, dict) else keys or [0])
            inner = part[key] if key in keys else None
            if isinstance(inner, dict | list) and inner and chance.random() < 0.7:
                part = inner
                continue
            break
        if isinstance(part, dict) or key in keys:
            part[key] = chance.choice(odd)
        try:
            converted(data)
        except SampleError as error:
            refused += 1
            assert str(error).encode("utf-8").startswith(f"{WHERE}: ".encode())
    assert refused > 1500


def test_importing_it_imports_nothing_heavy() -> None:
    code = (
        "import sys, tvm_eff.strict; "
        "sys.exit(bool({'torch', 'tvm', 'numpy', 'tvm_eff.targets'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
