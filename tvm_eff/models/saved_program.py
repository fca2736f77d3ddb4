"""Read a program that ``torch.export.save`` wrote without running code that its file may hold.

``torch.export.load`` unpickles whatever a file says is a sample input, a weight or a constant,
evaluates expressions of its graph, imports modules that its outputs' structure names, and takes
any attribute of ``torch`` for an operator. Here a file is taken apart first: what remains of it
are tensors, operators, and names that are no code, and torch is given a copy with nothing else.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch.export.pt2_archive import PT2ArchiveReader, PT2ArchiveWriter, constants
from torch.utils import _pytree as pytree

from tvm_eff.errors import ModelError

_MODEL = "model"
_MODEL_FILE = constants.MODELS_FILENAME_FORMAT.format(_MODEL)
_SAMPLE_INPUTS = constants.SAMPLE_INPUTS_FILENAME_FORMAT.format(_MODEL)
_PAYLOADS = {
    constants.WEIGHTS_DIR: constants.WEIGHTS_CONFIG_FILENAME_FORMAT.format(_MODEL),
    constants.CONSTANTS_DIR: constants.CONSTANTS_CONFIG_FILENAME_FORMAT.format(_MODEL),
}
# Names of tensors, weights, arguments and versions, which are part of the code that torch
# generates from a graph; nothing of this can be more than a name there.
_NAME = re.compile(r"[A-Za-z0-9_.:+]*")
# Others' operators, which are known to PyTorch once these are imported.
_PACKAGES = ("torchao", "torchvision")
_OPERATOR = re.compile(
    r"torch\.ops\.(aten|prims|quantized_decomposed|torchao|torchvision)\.\w+(\.\w+)?"
    r"|torch\.ops\.higher_order\.(wrap_with_set_grad_enabled|wrap_with_autocast)"
    r"|_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|neg|eq|ne|lt|le|gt|ge|and_|or_|not_)"
    r"|math\.\w+"
)
# They read or write files, or run what they are given.
_NO_OPERATORS = re.compile(r"torch\.ops\.aten\.(from_file|_?print|save|Size|import)\b.*")
_INNER_TENSOR = "torch.ops.export.access_subclass_inner_tensor.default"
_TREES = {None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"}
# What torch prints, or takes for the value of a string argument.
_TEXTS = {"metadata", "as_string", "as_strings"}


class _RefusedError(Exception):
    """What a file holds that is not read."""


def load_program(path: Path) -> torch.export.ExportedProgram:
    """Read a program of ``torch.export.save``.

    Parameters
    ----------
    path
        The ``.pt2`` file, of PyTorch 2.8 or newer.

    Raises
    ------
    ModelError
        The file cannot be read, or holds more than operators on tensors of fixed shapes.
    """
    try:
        program = torch.export.load(_harmless(path))
        program.example_inputs = _zeros(program)
        return program
    except _RefusedError as refused:
        raise ModelError(f"{path} {refused}") from refused
    except Exception as error:  # of zip, JSON, pickle and torch
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"{path} cannot be read as a program of torch.export: {reason[:300]}; write it "
            "with torch.export.save(torch.export.export(model.eval(), inputs), FILE)"
        ) from error


def _harmless(path: Path) -> io.BytesIO:
    """Return the file again, with nothing in it that is or could name code."""
    reader = PT2ArchiveReader(str(path))
    names = set(reader.get_file_names())
    if any(name.startswith(constants.AOTINDUCTOR_DIR) for name in names):
        raise _RefusedError("holds compiled code, which is not read; save the program alone")
    content = reader.read_bytes(_MODEL_FILE)
    program = json.loads(content)
    _require_harmless(program)
    _register_operators(content)
    program["guards_code"] = []
    copy = io.BytesIO()
    with PT2ArchiveWriter(copy) as writer:
        writer.write_string(_MODEL_FILE, json.dumps(program))
        for folder, config in _PAYLOADS.items():
            for name, content in _payloads(reader, names, folder, config):
                writer.write_bytes(name, content)
        # The shapes are the graph's; there is no need to unpickle values.
        writer.write_bytes(_SAMPLE_INPUTS, _pickled(((), {})))
    copy.seek(0)
    return copy


def _register_operators(program: bytes) -> None:
    """Import the packages that have operators which a program calls."""
    for package in _PACKAGES:
        if f'"torch.ops.{package}.'.encode() not in program:
            continue
        try:
            import_module(package)
        except Exception as error:  # of a package for another PyTorch, too
            raise _RefusedError(
                f"calls operators of {package}, which cannot be imported ({error}); install it, "
                "or export the model without them"
            ) from error


def _zeros(program: torch.export.ExportedProgram) -> tuple[Any, Any]:
    """Return inputs, positional and by name, in the place of those that were not unpickled."""
    nodes = {node.name: node.meta.get("val") for node in program.graph.nodes}
    leaves = []
    for name in program.graph_signature.user_inputs:
        value = nodes.get(name) if isinstance(name, str) else name
        if isinstance(value, torch.Tensor):
            value = torch.zeros(value.shape, dtype=value.dtype)
        leaves.append(value)
    arguments, keywords = pytree.tree_unflatten(leaves, program.call_spec.in_spec)
    return arguments, keywords


def _payloads(
    reader: PT2ArchiveReader, names: set[str], folder: str, config_file: str
) -> Iterator[tuple[str, bytes]]:
    """Yield the files of weights or of constants: raw ones, and tensors pickled again."""
    legacy = f"{folder}{_MODEL}.pt"
    if legacy in names:
        yield legacy, _pickled(_tensors_of(reader.read_bytes(legacy), legacy))
        return
    config = json.loads(reader.read_bytes(config_file))
    written = set()
    for key, payload in config["config"].items():
        file = folder + str(payload["path_name"])
        kinds = (constants.WEIGHT_FILENAME_PREFIX, constants.TENSOR_CONSTANT_FILENAME_PREFIX)
        if not str(payload["path_name"]).startswith(kinds):
            raise _RefusedError(
                f"holds the constant '{key}', an object of a class of its own, which is not read "
                "since it could run code; export the model without it"
            )
        if file in written:
            continue
        written.add(file)
        content = reader.read_bytes(file)
        pickled = payload["use_pickle"] is not False
        yield file, _pickled(_tensors_of(content, key)) if pickled else content
    yield config_file, json.dumps(config).encode()


def _tensors_of(content: bytes, key: str) -> Any:
    if not content:
        return {}
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        raise _RefusedError(
            f"holds more than tensors in '{key}', and is not read since it could run code; "
            "export the model again with plain tensors"
        ) from error


def _pickled(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _require_harmless(part: Any, key: str = "") -> None:
    """Refuse a part of a program's JSON that torch could take for code."""
    if isinstance(part, dict):
        if "expr_str" in part:
            raise _RefusedError(
                "has a dynamic shape, and a library has fixed ones; export it without "
                "dynamic_shapes"
            )
        for name, value in part.items():
            _require_name(name)
            if name not in _TEXTS:
                _require_harmless(value, name)
    elif isinstance(part, list):
        if key == "guards_code":
            return
        for value in part:
            _require_harmless(value, key)
    elif isinstance(part, str):
        _require_harmless_text(part, key)


def _require_harmless_text(text: str, key: str) -> None:
    if key in ("target", "as_operator"):
        if text == _INNER_TENSOR:
            raise _RefusedError(
                "has weights of a class of their own, as torchao's quantize_ makes: no plain "
                "tensors; save the network as it was before that, and give --dtype int8 and "
                "--calibrate, or save what PT2E's convert_pt2e returns"
            )
        if not _OPERATOR.fullmatch(text) or _NO_OPERATORS.fullmatch(text):
            raise _RefusedError(
                f"calls {text[:100]!r}, which is no operator on tensors; export the model without"
            )
    elif key in ("in_spec", "out_spec"):
        if text:
            _require_plain_tree(json.loads(text)[1])
    else:
        _require_name(text)


def _require_name(text: str) -> None:
    if not _NAME.fullmatch(text):
        raise _RefusedError(
            f"has {text[:100]!r} for a name, which could be code; it is not as "
            "torch.export.save writes it"
        )


def _require_plain_tree(spec: Any) -> None:
    """Refuse inputs or outputs in classes that torch would have to import."""
    context = json.dumps(spec["context"])
    if spec["type"] not in _TREES or "__enum__" in context:
        raise _RefusedError(
            f"has inputs or outputs in a {str(spec['type'])[:100]!r}; export a model that takes "
            "and returns tensors, or tuples, lists or dictionaries of them"
        )
    for child in spec["children_spec"]:
        _require_plain_tree(child)
