"""Data from files as dataclasses, by msgspec; whatever is wrong is one message.

msgspec checks and converts. But it lets a dataclass have keys that are not known, and its errors
show neither the value nor the key of a mapping: the message here names the file, the key, the
value and what was expected.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import itertools
import json
import reprlib
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import Meta
from typing_extensions import NotRequired, get_type_hints, is_typeddict

from tvm_eff.errors import Error, nearest

Converted = TypeVar("Converted")

Count = Annotated[int, Meta(ge=0, le=2**63 - 1, description="an integer from 0, of 64 bits")]
"""A number of things; a larger integer would overflow wherever it is used."""

Finite = Annotated[
    float, Meta(ge=-sys.float_info.max, le=sys.float_info.max, description="a finite number")
]
"""A number that is neither infinite nor NaN."""

# The second for text that is no Unicode, such as JSON's "\\ud800".
_REFUSALS = (msgspec.ValidationError, UnicodeEncodeError)
_WORDS = {str: "a string", int: "an integer", float: "a number", bool: "true or false"}


def convert(
    value: object,
    kind: type[Converted],
    *,
    where: Path | str,
    error: type[Error],
    advice: str = "",
    complete: bool = False,
) -> Converted:
    """Return plain data, as read from JSON or TOML, as an object of the class `kind`.

    Parameters
    ----------
    value
        The data.
    kind
        A dataclass or a Struct, which takes no other keys than its fields' names. These are of
        any type that msgspec converts to; the description of a ``msgspec.Meta`` says what is
        expected where the type alone does not.
    where
        The file, and the line if there are several, for messages.
    error
        Raised for whatever is wrong.
    advice
        What to do next, for messages.
    complete
        Whether also the keys must be there whose fields have a default.

    Raises
    ------
    Error
        A key is unknown or missing, or a value has another type or breaks a constraint.
    """
    try:
        converted, problem = _converted(_Part(kind, value, ""), complete)
    except RecursionError as cause:
        raise error(f"{where} is nested too deeply{_next(advice)}") from cause
    if problem is not None:
        raise error(f"{where}: {problem}{_next(advice)}")
    return converted


def checked(value: object, kind: type[Converted]) -> Converted:
    """Return plain data as an object of the class `kind`, quickly where nothing is wrong.

    Parameters
    ----------
    value
        The data.
    kind
        A Struct with ``forbid_unknown_fields``.

    Raises
    ------
    ValueError
        A key is unknown or missing, or a value has another type or breaks a constraint.
    """
    try:
        return msgspec.convert(value, kind)
    except _REFUSALS:
        _, problem = _converted(_Part(kind, value, ""), complete=False)
    raise ValueError(problem)


def decode_json(content: bytes, *, where: Path | str, error: type[Error], advice: str = "") -> Any:
    """Return what UTF-8 text of JSON holds.

    Parameters
    ----------
    content
        The text.
    where, error, advice
        As for :func:`convert`.

    Raises
    ------
    Error
        It is no JSON, a key stands twice in an object, or it is nested too deeply.
    """
    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=_object)
    except RecursionError as cause:
        raise error(f"{where} is nested too deeply{_next(advice)}") from cause
    except ValueError as cause:
        raise error(f"{where} is damaged: {cause}{_next(advice)}") from cause


def none_of(key: str, value: object, allowed: tuple[object, ...]) -> str:
    """Return a message's part: the value of `key` is none of those that are allowed."""
    hint = _near(value, allowed)
    return f"{key!r} is {_short(value)}; expected {_expected(Literal[allowed])}{hint}"


class _Part(NamedTuple):
    """A part of the data, with the type it must have and the path of its keys."""

    kind: Any
    value: object
    path: str


class _Fields(NamedTuple):
    """What keys an object may have, with their types, and which it must have."""

    kinds: Mapping[str, Any]
    required: tuple[str, ...]
    complete: tuple[str, ...]


@functools.cache
def _fields(kind: Any) -> _Fields | None:
    """Return the fields of a dataclass, a TypedDict or a Struct; None for any other type."""
    if hasattr(kind, "__struct_fields__"):
        infos = msgspec.structs.fields(kind)
        kinds = {each.encode_name: each.type for each in infos}
        required = tuple(each.encode_name for each in infos if each.required)
        return _Fields(kinds, required, tuple(kinds))
    if is_typeddict(kind):
        hints = get_type_hints(kind, include_extras=True)
        required = tuple(name for name in hints if name in kind.__required_keys__)
        kinds = {name: _in_typeddict(hint) for name, hint in hints.items()}
        return _Fields(kinds, required, required)
    if not dataclasses.is_dataclass(kind):
        return None
    fields, hints = dataclasses.fields(kind), get_type_hints(kind, include_extras=True)
    no = dataclasses.MISSING
    required = tuple(each.name for each in fields if each.default is each.default_factory is no)
    kinds = {each.name: hints[each.name] for each in fields}
    return _Fields(kinds, required, tuple(kinds))


def _in_typeddict(hint: Any) -> Any:
    origin: Any = get_origin(hint)
    return get_args(hint)[0] if origin is NotRequired else hint


def _converted(part: _Part, complete: bool) -> tuple[Any, str | None]:
    """Return the data converted, and what is wrong with it if something is."""
    try:
        converted = msgspec.convert(part.value, part.kind)
    except _REFUSALS as refusal:
        return None, _refusal(part, str(refusal))
    return converted, _wrong_key_within(part, complete)


def _refusal(part: _Part, reason: str) -> str:
    """Say what is wrong with data that msgspec refuses for the `reason`."""
    for inner in _parts(part):
        try:
            msgspec.convert(inner.value, inner.kind)
        except _REFUSALS as refusal:
            return _refusal(inner, str(refusal))
    # All its parts are right by themselves.
    kind, (_, value, path) = _bare(part.kind), part
    if _fields(kind) is not None and isinstance(value, dict):
        return _wrong_key(part, complete=False) or (f"{path!r}: {reason}" if path else reason)
    hint = _near(value, get_args(kind)) if get_origin(kind) is Literal else ""
    name = repr(path) if path else "the content"
    return f"{name} is {_short(value)}; expected {_expected(part.kind)}{hint}"


def _wrong_key_within(part: _Part, complete: bool) -> str | None:
    if not _has_fields(part.kind):
        return None
    inner = (_wrong_key_within(each, complete) for each in _parts(part))
    return _wrong_key(part, complete) or next(filter(None, inner), None)


@functools.cache
def _has_fields(kind: Any) -> bool:
    """Whether a value of a type is an object with fields, or a container of such."""
    kind = _bare(kind)
    return _fields(kind) is not None or any(map(_has_fields, get_args(kind)))


def _wrong_key(part: _Part, complete: bool) -> str | None:
    """Say which key of an object is missing or unknown; None if it is no object with fields."""
    fields = _fields(_bare(part.kind))
    if fields is None or not isinstance(part.value, dict):
        return None
    unknown = [key for key in part.value if key not in fields.kinds]
    for key in fields.complete if complete else fields.required:
        if key not in part.value:
            close = difflib.get_close_matches(key, unknown, n=1)
            hint = f" (is {close[0]!r} a misspelling?)" if close else ""
            expected = _expected(fields.kinds[key])
            return f"the key {_join(part.path, key)!r} is missing{hint}; expected {expected}"
    if unknown:
        return f"unknown key {_join(part.path, unknown[0])!r}{nearest(unknown[0], fields.kinds)}"
    return None


def _parts(part: _Part) -> Iterator[_Part]:
    """Yield the parts of an object or a list whose types are known."""
    kind, (_, value, path) = _bare(part.kind), part
    fields, arguments = _fields(kind), get_args(kind)
    if isinstance(value, dict):
        known = fields.kinds if fields is not None else {}
        if get_origin(kind) in (dict, Mapping):
            known = dict.fromkeys(value, arguments[1])
        for key, each in value.items():
            if key in known:
                yield _Part(known[key], each, _join(path, key))
    elif isinstance(value, list) and get_origin(kind) in (list, tuple):
        same = len(arguments) == 1 or arguments[-1] is Ellipsis
        kinds = itertools.repeat(arguments[0]) if same else arguments
        for index, (inner, each) in enumerate(zip(kinds, value, strict=False)):
            yield _Part(inner, each, f"{path}[{index}]")


def _bare(kind: Any) -> Any:
    """Return a type without what is said of it, and without None where that may stand as well."""
    if get_origin(kind) is Annotated:
        return _bare(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        others = [each for each in get_args(kind) if each is not types.NoneType]
        return _bare(others[0]) if len(others) == 1 else kind
    return kind


def _expected(kind: Any) -> str:
    """Say what a value of a type is."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _constrained(arguments[0], [each for each in arguments if isinstance(each, Meta)])
    if origin in (Union, types.UnionType):
        return " or ".join(_expected(each) for each in arguments if each is not types.NoneType)
    if origin is tuple and arguments[-1] is not Ellipsis:
        return f"a list of {len(arguments)}"
    if origin in (list, tuple):
        return "a list"
    if origin is Literal:
        return " or ".join(map(json.dumps, arguments))
    return _WORDS.get(kind, "an object")


def _constrained(kind: Any, said: list[Meta]) -> str:
    described = [meta.description for meta in said if meta.description is not None]
    if described:
        return described[0]
    least = "".join(f" from {meta.ge}" for meta in said if meta.ge is not None)
    most = "".join(f" to {meta.le}" for meta in said if meta.le is not None)
    return _expected(kind) + least + most


def _near(value: object, allowed: tuple[object, ...]) -> str:
    """Return a hint that names what of the allowed is near; the others are told anyway."""
    words = [each for each in allowed if isinstance(each, str)]
    if not isinstance(value, str) or not difflib.get_close_matches(value, words):
        return ""
    return nearest(value, words)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return found


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def _next(advice: str) -> str:
    return f"; {advice}" if advice else ""


class _Repr(reprlib.Repr):
    """Shows any value shortly, however long or deep it is."""

    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to print integers of thousands of digits.
        return repr(x) if x.bit_length() <= 64 else f"an integer of {x.bit_length()} bits"


def _short(value: object) -> str:
    shown = _Repr()
    shown.maxstring = 60
    text = shown.repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
