"""Reading a saved program runs nothing that its file holds, however it is hidden there."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.export.pt2_archive import PT2ArchiveReader, PT2ArchiveWriter

from tvm_eff import models
from tvm_eff.errors import ModelError

MODEL = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"
SAMPLES = "data/sample_inputs/model.pt"


class Small(nn.Module):
    """Has weights, a constant, and outputs in a structure."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, Any]:
        with torch.no_grad():
            z = self.body(x).mean((2, 3)) + torch.tensor([1.0, 2.0, 3.0, 4.0])
        return {"a": z, "b": [z + y]}


class Touch:
    """Writes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self._path,))


@pytest.fixture(scope="module")
def program() -> torch.export.ExportedProgram:
    torch.manual_seed(0)
    return torch.export.export(Small().eval(), (torch.zeros(1, 3, 8, 8), torch.zeros(1, 4)))


@pytest.fixture
def saved(program: torch.export.ExportedProgram, tmp_path: Path) -> Path:
    path = tmp_path / "saved.pt2"
    torch.export.save(program, path)
    return path


def change(path: Path, changes: dict[str, Callable[[bytes], bytes]]) -> None:
    """Write the file again with some of its records changed, or added."""
    reader = PT2ArchiveReader(str(path))
    skipped = (".data/", "archive_", "byteorder")
    names = [name for name in reader.get_file_names() if not name.startswith(skipped)]
    records = {name: reader.read_bytes(name) for name in names}
    for name, changed in changes.items():
        records[name] = changed(records.get(name, b""))
    with PT2ArchiveWriter(str(path)) as writer:
        for name, content in records.items():
            writer.write_bytes(name, content)


def in_json(edit: Callable[[Any], None]) -> Callable[[bytes], bytes]:
    def changed(content: bytes) -> bytes:
        data = json.loads(content)
        edit(data)
        return json.dumps(data).encode()

    return changed


def pickled(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def first(part: Any, key: str) -> dict[str, Any]:
    """Return the first object, depth first, that has the key."""
    if isinstance(part, dict) and key in part:
        return part
    for each in part.values() if isinstance(part, dict) else part:
        if isinstance(each, dict | list):
            try:
                return first(each, key)
            except LookupError:
                continue
    raise LookupError(key)


def test_what_is_read_computes_the_same(program: torch.export.ExportedProgram, saved: Path) -> None:
    network = models.load(str(saved))
    assert isinstance(network.module, torch.export.ExportedProgram)
    inputs = torch.randn(1, 3, 8, 8), torch.randn(1, 4)
    read, expected = network.module.module()(*inputs), program.module()(*inputs)
    assert torch.equal(read["a"], expected["a"])
    assert torch.equal(read["b"][0], expected["b"][0])


def test_weights_that_are_pickled_tensors_are_read(
    program: torch.export.ExportedProgram, saved: Path
) -> None:
    # As torch saves tensors of some layouts.
    config = json.loads(PT2ArchiveReader(str(saved)).read_bytes(WEIGHTS))["config"]
    name = next(key for key, payload in config.items() if payload["path_name"] == "weight_0")
    tensor = nn.Parameter(program.state_dict[name].detach() + 1)

    def edit(data: Any) -> None:
        data["config"][name]["use_pickle"] = True

    change(saved, {WEIGHTS: in_json(edit), "data/weights/weight_0": lambda _: pickled(tensor)})
    read = models.load(str(saved)).module
    assert isinstance(read, torch.export.ExportedProgram)
    assert torch.equal(read.state_dict[name], tensor)


def sample_inputs(mark: Path) -> dict[str, Callable[[bytes], bytes]]:
    return {SAMPLES: lambda _: pickled(((Touch(mark),), {}))}


def weight(mark: Path) -> dict[str, Callable[[bytes], bytes]]:
    def edit(config: Any) -> None:
        next(iter(config["config"].values()))["use_pickle"] = True

    return {WEIGHTS: in_json(edit), "data/weights/weight_0": lambda _: pickled(Touch(mark))}


def legacy_weights(mark: Path) -> dict[str, Callable[[bytes], bytes]]:
    return {"data/weights/model.pt": lambda _: pickled(Touch(mark))}


def opaque_constant(mark: Path) -> dict[str, Callable[[bytes], bytes]]:
    name = "opaque_obj_0"

    def edit(config: Any) -> None:
        payload = next(iter(config["config"].values()))
        config["config"]["more"] = {**payload, "path_name": name, "use_pickle": True}

    path = f"data/constants/{name}"
    return {CONSTANTS: in_json(edit), path: lambda _: pickle.dumps(Touch(mark))}


def constant(mark: Path) -> dict[str, Callable[[bytes], bytes]]:
    def edit(config: Any) -> None:
        next(iter(config["config"].values()))["use_pickle"] = True

    return {CONSTANTS: in_json(edit), "data/constants/tensor_0": lambda _: pickled(Touch(mark))}


def code(mark: Path) -> str:
    return f"__import__('pathlib').Path({str(mark)!r}).touch()"


def expression(mark: Path) -> dict[str, Callable[[bytes], bytes]]:
    def edit(data: Any) -> None:
        meta = first(data["graph_module"]["graph"]["tensor_values"], "sizes")
        meta["sizes"][0] = {"as_expr": {"expr_str": code(mark), "hint": None}}

    return {MODEL: in_json(edit)}


def guard(mark: Path) -> dict[str, Callable[[bytes], bytes]]:
    def edit(data: Any) -> None:
        data["guards_code"] = [f"{code(mark)} is None"]

    return {MODEL: in_json(edit)}


def operator(mark: Path) -> dict[str, Callable[[bytes], bytes]]:
    def edit(data: Any) -> None:
        node = data["graph_module"]["graph"]["nodes"][-1]
        node["target"] = "torch.os.system"
        node["inputs"] = [{"name": "", "kind": 1, "arg": {"as_string": f"touch {mark}"}}]

    return {MODEL: in_json(edit)}


def argument(mark: Path) -> dict[str, Callable[[bytes], bytes]]:
    """Put code in the place of an input's name."""

    def edit(data: Any) -> None:
        text = json.dumps(data).replace('"x"', json.dumps(f"x={code(mark)}"))
        data.clear()
        data.update(json.loads(text))

    return {MODEL: in_json(edit)}


def structure(mark: Path) -> dict[str, Callable[[bytes], bytes]]:
    """Have a module imported that lies beside the file."""
    name = f"planted_{mark.stem}"
    (mark.parent / f"{name}.py").write_text(f"from pathlib import Path\n{code(mark)}\n")

    def edit(data: Any) -> None:
        signature = first(data["graph_module"]["module_call_graph"], "in_spec")
        context = {
            "default_factory_module": name,
            "default_factory_name": "Path",
            "dict_context": ["a", "b"],
        }
        spec = {
            "type": "collections.defaultdict",
            "context": json.dumps(context),
            "children_spec": [],
        }
        signature["out_spec"] = json.dumps([1, spec])

    return {MODEL: in_json(edit)}


ATTACKS = {
    each.__name__: each
    for each in (
        *(sample_inputs, weight, legacy_weights, constant, opaque_constant, expression, guard),
        *(operator, argument, structure),
    )
}


@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_in_a_file_runs(
    name: str, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / f"{name}.mark"
    monkeypatch.syspath_prepend(str(tmp_path))
    change(saved, ATTACKS[name](mark))
    try:
        network = models.load(str(saved))
    except ModelError as error:
        assert "saved.pt2" in str(error)
    else:
        # What was wrong was left out, and the program is as it was.
        assert name in ("sample_inputs", "guard")
        assert isinstance(network.module, torch.export.ExportedProgram)
        network.module.module()(torch.zeros(1, 3, 8, 8), torch.zeros(1, 4))
    assert not mark.exists()


@pytest.mark.parametrize("size", [0, 1, 100, 2000])
def test_a_file_cut_short(size: int, saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:size])
    with pytest.raises(ModelError, match=r"saved.pt2 cannot be read as a program"):
        models.load(str(saved))


def test_a_graph_nested_too_deeply(saved: Path) -> None:
    change(saved, {MODEL: lambda _: b'{"a":' * 50_000 + b"1" + b"}" * 50_000})
    with pytest.raises(ModelError, match=r"saved.pt2 cannot be read"):
        models.load(str(saved))
