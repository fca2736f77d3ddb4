"""Load weights from a file: tensors only, never code, and exactly those of the network."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from tvm_eff.errors import ModelError
from tvm_eff.paths import open_regular

# Keys under which training scripts save the weights in a dictionary.
_STATE_KEYS = ("state_dict", "model_state_dict", "model")
_MAX_LISTED = 5


def load_weights(module: nn.Module, path: Path) -> None:
    """Load the weights of a ``.safetensors`` or ``torch.save`` file into `module`.

    The latter is read without executing pickled code. The weights may be nested under
    ``state_dict`` or ``model``, and may have ``DataParallel``'s prefix ``module.``.

    Raises
    ------
    ModelError
        The file cannot be read, contains more than tensors, or does not fit the module;
        the message names missing and unexpected weights, and those of another shape.
    """
    state = _without_prefix(_read(path))
    own = module.state_dict()
    missing = [name for name in own if name not in state]
    unexpected = [name for name in state if name not in own]
    misshapen = [
        f"{name} ({_size(state[name])} instead of {_size(own[name])})"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    if missing or unexpected or misshapen:
        raise ModelError(
            f"the weights in {path} are another network's"
            + _listed("missing", missing)
            + _listed("unexpected", unexpected)
            + _listed("of another shape", misshapen)
        )
    module.load_state_dict(state)


def require_plain(module: nn.Module | torch.export.ExportedProgram, where: str) -> None:
    """Check that all weights are plain tensors.

    Raises
    ------
    ModelError
        A weight is of a class of its own, as torchao's ``quantize_`` makes for weights of four
        bits or with a scale for each group, or is packed for PyTorch's own quantized kernels;
        the message names it.
    """
    state = module.state_dict() if isinstance(module, nn.Module) else module.state_dict
    for name, value in state.items():
        kind = type(value).__name__
        if is_traceable_wrapper_subclass(value):
            trouble = f"is of the class {kind}, as torchao's quantize_ makes: no plain tensor"
        elif name.endswith("_packed_params"):
            trouble = "is packed for PyTorch's own quantized kernels (torch.ao.quantization)"
        else:
            continue
        raise ModelError(
            f"the weight '{name}' of {where} {trouble}; give the network as it was before that, "
            "with --dtype int8 and --calibrate, or as PT2E's convert_pt2e returns it"
        )


def require_finite(module: nn.Module | torch.export.ExportedProgram, where: str) -> None:
    """Check that no weight is NaN.

    Raises
    ------
    ModelError
        A weight is NaN; the message names it.
    """
    state = module.state_dict() if isinstance(module, nn.Module) else module.state_dict
    for name, tensor in state.items():
        # Packed weights of a quantized module are no tensors.
        if not isinstance(tensor, torch.Tensor) or tensor.is_meta or tensor.is_quantized:
            continue
        if tensor.is_floating_point() and bool(torch.isnan(tensor).any()):
            count = int(torch.isnan(tensor).sum())
            raise ModelError(
                f"the weight '{name}' of {where} has NaN in {count} of its {tensor.numel()} "
                "values; train or save it again"
            )


def _read(path: Path) -> dict[str, torch.Tensor]:
    with open_regular(path, ModelError, "check --weights"):
        pass
    try:
        if path.suffix == ".safetensors":
            return _tensors(safetensors.torch.load_file(path), path)
        return _tensors(torch.load(path, map_location="cpu", weights_only=True), path)
    except ModelError:
        raise
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path} holds more than tensors, and is not read since it could run code; save the "
            "weights alone: torch.save(model.state_dict(), FILE)"
        ) from error
    except Exception as error:  # an unpickler raises anything on bytes that are no pickle
        raise ModelError(
            f"{path} cannot be read as weights: {_first_line(error)}; it should be a .safetensors "
            "file or one written by torch.save(model.state_dict(), FILE)"
        ) from error


def _tensors(found: Any, path: Path) -> dict[str, torch.Tensor]:
    if isinstance(found, Mapping):
        for key in _STATE_KEYS:
            if isinstance(found.get(key), Mapping):
                return _tensors(found[key], path)
        if all(isinstance(value, torch.Tensor) for value in found.values()):
            return {_name(key, path): _dense(value, key, path) for key, value in found.items()}
    raise ModelError(
        f"{path} holds no table of tensors by name; write it with "
        "torch.save(model.state_dict(), FILE)"
    )


def _name(key: Any, path: Path) -> str:
    if isinstance(key, str):
        return key
    raise ModelError(
        f"{path} has {key!r} for the name of a weight, which is a {type(key).__name__}; write it "
        "with torch.save(model.state_dict(), FILE)"
    )


def _dense(tensor: torch.Tensor, key: str, path: Path) -> torch.Tensor:
    """Return a weight, which must have values, one for each element."""
    trouble = None
    if tensor.is_meta:
        trouble = "has no values (it is on the device 'meta')", "load the model's own first"
    elif tensor.layout != torch.strided:
        trouble = f"is sparse ({tensor.layout})", "make it dense: weight.to_dense()"
    elif tensor.is_quantized:
        trouble = f"is quantized ({tensor.dtype})", "save the weights of the float model"
    if trouble is None:
        return tensor
    what, advice = trouble
    raise ModelError(f"the weight '{key}' in {path} {what}; {advice}, and save it again")


def _without_prefix(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    prefix = "module."
    if state and all(name.startswith(prefix) for name in state):
        return {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _size(tensor: torch.Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "scalar"


def _listed(what: str, names: Iterable[str]) -> str:
    listed = list(names)
    if not listed:
        return ""
    more = f" and {len(listed) - _MAX_LISTED} more" if len(listed) > _MAX_LISTED else ""
    return f"; {what}: {', '.join(listed[:_MAX_LISTED])}{more}"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
