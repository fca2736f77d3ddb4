"""Load a network from the zoo, from user code, or from a saved program."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import math
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from tvm_eff.errors import ModelError, nearest
from tvm_eff.models import registry
from tvm_eff.models.network import Network
from tvm_eff.models.program import first_line, location_of, quiet
from tvm_eff.models.saved_program import load_program
from tvm_eff.models.weights import load_weights, require_finite, require_plain
from tvm_eff.paths import short
from tvm_eff.tensors import TensorSpec

_WEIGHTS = (
    "holds weights, or an object that only its own code can read: name the code of the network, "
    "and give the file as its weights: --model FILE.py:NAME --input-shape ... --weights FILE; or "
    "write a program: torch.export.save(torch.export.export(model.eval(), inputs), 'net.pt2')"
)
_OTHER_TOOL = (
    "is a file of another tool, and networks are imported from PyTorch: export the one that it "
    "was made from: torch.export.save(torch.export.export(model.eval(), inputs), 'net.pt2')"
)
_OTHER_FILES = {
    **dict.fromkeys((".pt", ".pth", ".ckpt", ".bin", ".safetensors"), _WEIGHTS),
    **dict.fromkeys(
        (".onnx", ".tflite", ".h5", ".keras", ".pb", ".mlmodel", ".param"), _OTHER_TOOL
    ),
}

MOST_ELEMENTS = 2**31 - 1
"""Of a tensor: indices have 32 bits."""

MOST_DIMENSIONS = 16
"""Of a tensor; PyTorch's own may have up to 64."""

DTYPES = ("float32", "float64", "float16", "int8", "int16", "int32", "int64", "uint8", "bool")
"""Supported input dtypes."""


def load(
    model: str,
    *,
    input_shapes: Sequence[Sequence[int]] = (),
    input_dtypes: Sequence[str] = (),
    weights: str | Path | None = None,
    width: float | None = None,
    resolution: int | None = None,
    seed: int = 0,
) -> Network:
    """Return the network that `model` names.

    Parameters
    ----------
    model
        A name of the zoo; ``path/to/net.py:Net`` or ``package.module:factory``, a module,
        or a class or function that returns one and needs no arguments; or the path of a
        ``.pt2`` file written by ``torch.export.save``.
    input_shapes
        The shape of each input. Models of the zoo and saved programs have defaults.
    input_dtypes
        The dtype of each input, float32 by default.
    weights
        A file of weights: see :func:`tvm_eff.models.weights.load_weights`.
    width, resolution
        For models of the zoo: see :func:`tvm_eff.models.spec`.
    seed
        Seed of the random weights.

    Raises
    ------
    ModelError
        There is no such model, it cannot be created, or the weights do not fit it.
    """
    specs = _specs(input_shapes, input_dtypes)
    _refuse_other_files(model)
    if model.endswith(".pt2"):
        _refuse("a saved program", weights=weights, width=width, resolution=resolution)
        network = _saved_program(Path(model), specs)
    elif ":" in model:
        _refuse("a model of your own", width=width, resolution=resolution)
        network = _own(model, specs, seed)
    else:
        network = _of_the_zoo(model, seed, width, resolution, specs)
    if weights is not None:
        assert isinstance(network.module, nn.Module), "saved programs are refused above"
        load_weights(network.module, Path(weights))
    _require_possible(network)
    require_plain(network.module, network.name)
    require_finite(network.module, network.name)
    return network


def _refuse_other_files(model: str) -> None:
    """Say what to do with a file of another kind, which is no name of a model either."""
    kind = _OTHER_FILES.get(Path(model).suffix.lower())
    if kind is not None and ":" not in model:
        raise ModelError(f"{model} {kind}")


def of_module(
    module: nn.Module,
    specs: Sequence[TensorSpec] = (),
    input_shapes: Sequence[Sequence[int]] = (),
    input_dtypes: Sequence[str] = (),
    weights: str | Path | None = None,
    name: str | None = None,
) -> Network:
    """Return a network of a module.

    Parameters
    ----------
    module
        The module, with its weights.
    specs
        Its inputs; or their shapes and dtypes apart, as for :func:`load`.
    input_shapes, input_dtypes, weights
        As for :func:`load`.
    name
        What it is called; its class' name by default.

    Raises
    ------
    ModelError
        Nothing is known of its inputs, or the weights do not fit it.
    """
    taken = tuple(specs) or _specs(input_shapes, input_dtypes)
    called = _file_name(name or type(module).__name__)
    if not taken:
        raise ModelError(f"what does {called} take? give example inputs, or input_shapes")
    if weights is not None:
        load_weights(module, Path(weights))
    network = Network(called, module, taken)
    _require_possible(network)
    require_plain(module, called)
    require_finite(module, called)
    return network


def of_program(exported: torch.export.ExportedProgram, name: str) -> Network:
    """Return a network of a traced program; its inputs are those it was traced for.

    Raises
    ------
    ModelError
        It takes something other than tensors of fixed shapes, or a weight is no plain tensor.
    """
    require_plain(exported, name)
    return Network(_file_name(name), exported, _program_inputs(exported, name))


def _require_possible(network: Network) -> None:
    for spec in network.inputs:
        elements = math.prod(spec.shape)
        if elements > MOST_ELEMENTS:
            raise ModelError(
                f"an input of {network.name} would have {elements:.3g} elements "
                f"({_size(spec.shape)}), and at most {MOST_ELEMENTS:.3g} are possible; check "
                "--input-shape or --resolution"
            )


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]", "_", name)


def _of_the_zoo(
    name: str,
    seed: int,
    width: float | None,
    resolution: int | None,
    specs: tuple[TensorSpec, ...],
) -> Network:
    if name not in registry.MODELS and Path(name).suffix == ".py":
        raise ModelError(f"which model of {name}? name its class or function: {name}:Net")
    network = registry.load(name, seed, width, resolution)
    return Network(network.name, network.module, specs) if specs else network


def _own(model: str, specs: tuple[TensorSpec, ...], seed: int) -> Network:
    # From the right: a drive or a folder may contain a colon.
    location, _, attribute = model.rpartition(":")
    if not location or not attribute:
        raise ModelError(f"'{model}' names no model; write FILE.py:NAME or PACKAGE.MODULE:NAME")
    if not specs:
        raise ModelError(
            f"what shape does {model} take? give --input-shape, such as --input-shape 1,3,224,224, "
            "once for each input"
        )
    found = attribute_of(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = found if isinstance(found, nn.Module) else _make(found, model)
    if not isinstance(made, nn.Module):
        raise ModelError(f"{model} gives a {type(made).__name__}, not a torch.nn.Module")
    return Network(_file_name(attribute), made.eval(), specs)


def attribute_of(name: str) -> Any:
    """Return what ``FILE.py:NAME`` or ``PACKAGE.MODULE:NAME`` names.

    Raises
    ------
    ModelError
        It cannot be imported, or has nothing of the name.
    """
    location, _, attribute = name.rpartition(":")
    return _attribute(_module(location), attribute, name)


def _module(location: str) -> ModuleType:
    """Import a file or a module; its exceptions are reported as the user's errors."""
    try:
        return _from_file(Path(location)) if location.endswith(".py") else _from_name(location)
    except ModelError:
        raise
    except (Exception, SystemExit) as error:
        where = f" ({error.filename}:{error.lineno})" if isinstance(error, SyntaxError) else None
        raise ModelError(
            f"{location} cannot be imported: {type(error).__name__}: {first_line(error)}"
            f"{location_of(error) if where is None else where}"
        ) from error


def _from_file(path: Path) -> ModuleType:
    try:
        there = path.is_file()
    except OSError as error:
        raise ModelError(f"cannot read {short(path)}: {error.strerror}; check --model") from error
    if not there:
        others = [str(each) for each in path.parent.glob("*.py")] if path.parent.is_dir() else []
        hint = nearest(str(path), others) if others else ""
        raise ModelError(f"there is no file {path}{hint}")
    # So that it can import its sibling files, as when Python runs it.
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    name = f"tvm_eff_model_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None, "it ends in .py"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _from_name(name: str) -> ModuleType:
    if "" not in sys.path:
        sys.path.insert(0, "")  # as for `python -m`
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name + ".").startswith(error.name + "."):
            raise
        raise ModelError(
            f"there is no module '{name}' (no '{error.name}'); is it installed, or in this folder? "
            "A file is named FILE.py:NAME"
        ) from error


def _attribute(module: ModuleType, name: str, model: str) -> Any:
    if hasattr(module, name):
        return getattr(module, name)
    makers = [key for key, value in vars(module).items() if _may_make(key, value, module)]
    hint = nearest(name, makers) if makers else "; it defines no class or function"
    raise ModelError(f"{model.rpartition(':')[0]} has no '{name}'{hint}")


def _may_make(name: str, value: Any, module: ModuleType) -> bool:
    own = getattr(value, "__module__", None) == module.__name__
    return not name.startswith("_") and (isinstance(value, nn.Module) or (callable(value) and own))


def _make(found: Any, model: str) -> Any:
    if not callable(found):
        raise ModelError(f"{model} is a {type(found).__name__}, not a class, function or module")
    needed = _needed(found)
    if needed:
        raise ModelError(
            f"{model} needs arguments ({', '.join(needed)}); write a function without any that "
            "makes it, and name that"
        )
    try:
        return found()
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"{model} cannot be made: {type(error).__name__}: {first_line(error)}"
            f"{location_of(error)}"
        ) from error


def _needed(found: Callable[..., Any]) -> list[str]:
    try:
        parameters = inspect.signature(found).parameters.values()
    except (TypeError, ValueError):  # some builtins have none
        return []
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind not in variable]


def _saved_program(path: Path, specs: tuple[TensorSpec, ...]) -> Network:
    if not path.is_file():
        raise ModelError(f"there is no file {path}")
    with quiet():
        exported = load_program(path)
    taken = _program_inputs(exported, path)
    if specs and specs != taken:
        raise ModelError(
            f"{path} was exported for inputs of {_shapes(taken)}, not of {_shapes(specs)}; leave "
            "out --input-shape and --input-dtype, or export it again"
        )
    return Network(_file_name(path.stem), exported, taken)


def _program_inputs(
    exported: torch.export.ExportedProgram, path: str | Path
) -> tuple[TensorSpec, ...]:
    values = {node.name: node.meta.get("val") for node in exported.graph.nodes}
    found = []
    for name in exported.graph_signature.user_inputs:
        value = values.get(name) if isinstance(name, str) else name
        if not isinstance(value, torch.Tensor):
            raise ModelError(f"the input {name} of {path} is not a tensor; export it without")
        if not all(isinstance(extent, int) for extent in value.shape):
            raise ModelError(
                f"the input '{name}' of {path} has a dynamic shape ({_size(value.shape)}), and a "
                "library has fixed ones; export it without dynamic_shapes"
            )
        found.append(TensorSpec(tuple(value.shape), str(value.dtype).removeprefix("torch.")))
    return tuple(found)


def _specs(shapes: Sequence[Sequence[int]], dtypes: Sequence[str]) -> tuple[TensorSpec, ...]:
    if len(dtypes) > len(shapes):
        raise ModelError(
            f"{len(dtypes)} input dtypes for {len(shapes)} input shapes; give --input-shape for "
            "each input, and --input-dtype in the same order"
        )
    for dtype in dtypes:
        if dtype not in DTYPES:
            raise ModelError(f"unknown input dtype '{dtype}'{nearest(dtype, DTYPES)}")
    for shape in shapes:
        if any(extent < 1 for extent in shape):
            raise ModelError(f"the input shape {_size(shape)} has an extent below 1")
        if len(shape) > MOST_DIMENSIONS:
            raise ModelError(
                f"an input shape has {len(shape)} dimensions, and at most {MOST_DIMENSIONS} are "
                "possible; check --input-shape"
            )
    padded = [*dtypes, *["float32"] * (len(shapes) - len(dtypes))]
    return tuple(TensorSpec(tuple(s), d) for s, d in zip(shapes, padded, strict=True))


def _refuse(kind: str, **options: object) -> None:
    for name, value in options.items():
        if value is not None:
            raise ModelError(f"--{name} is not for {kind}; leave it out")


def _size(shape: Sequence[Any]) -> str:
    return " x ".join(map(str, shape))


def _shapes(specs: Sequence[TensorSpec]) -> str:
    return " and ".join(f"{_size(spec.shape)} {spec.dtype}" for spec in specs)
