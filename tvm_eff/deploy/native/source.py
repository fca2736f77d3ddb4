"""A plan as C: tables that the runtime in ``runtime/native`` walks, and the weights beside it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tvm

from tvm_eff.deploy.native.arena import ALIGNMENT
from tvm_eff.deploy.native.plan import Plan, PlannedTensor
from tvm_eff.deploy.native.plan_file import WEIGHTS as SECTION
from tvm_eff.deploy.native.plan_file import weight_offsets
from tvm_eff.tensors import TensorSpec

SOURCE, WEIGHTS, ASSEMBLY = "plan.c", "weights.bin", "weights.S"
_PAGE = 4096


@dataclass(frozen=True)
class Description:
    """What a library says of itself.

    Attributes
    ----------
    name, target
        The model's name and the target's.
    inputs, outputs
        The names of its tensors.
    features
        What the processor must have, in the words of /proc/cpuinfo.
    shared_workspace, thread_workspace
        Bytes of temporaries that kernels take outside and inside their parallel loops.
    modules
        PyTorch's modules whose parameters kernels take, by the kernels' names as lowered.
    """

    name: str
    target: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    features: tuple[str, ...]
    shared_workspace: int
    thread_workspace: int
    modules: Mapping[str, Sequence[str]]

    def modules_of(self, kernel: str) -> str:
        """Return a kernel's modules in words; its name says which it was lowered from."""
        bases = (each for each in self.modules if kernel == each or kernel.startswith(f"{each}_"))
        return ", ".join(self.modules.get(max(bases, key=len, default=""), ()))


def write_sources(plan: Plan, described: Description, folder: Path) -> list[Path]:
    """Write the plan and its weights into a folder, and return what is to be compiled."""
    offsets = _write_weights(plan.constants, folder / WEIGHTS)
    (folder / SOURCE).write_text(_source(plan, described, offsets), encoding="ascii")
    (folder / ASSEMBLY).write_text(_assembly(), encoding="ascii")
    return [folder / SOURCE, folder / ASSEMBLY]


def _write_weights(constants: Sequence[np.ndarray], path: Path) -> list[int]:
    offsets = weight_offsets(constants)
    with path.open("wb") as file:
        for at, each in zip(offsets, constants, strict=True):
            file.write(bytes(at - file.tell()))
            file.write(each.tobytes())
        # An assembler includes no empty file.
        file.write(bytes(ALIGNMENT))
    return offsets


def _assembly() -> str:
    return f"""\
.section {SECTION},"a",%progbits
.balign {_PAGE}
.global tvm_eff_weights
.hidden tvm_eff_weights
tvm_eff_weights: .incbin "{WEIGHTS}"
.section .note.GNU-stack,"",%progbits
"""


def _source(plan: Plan, described: Description, offsets: Sequence[int]) -> str:
    # Those of an inference first: profiles have no others.
    order = [*plan.calls[plan.at_load :], *plan.calls[: plan.at_load]]
    kernels = list(dict.fromkeys(call.kernel for call in order))
    parts = [
        '#include "plan.h"',
        "extern const char tvm_eff_weights[];",
        *map(_declared, kernels),
        _array("tvm_eff_kernel", "kernels", (f"__tvm_ffi_{each}" for each in kernels)),
        _array("char *const", "kernel_names", map(_text, kernels)),
        _array("char *const", "kernel_modules", (_text(described.modules_of(k)) for k in kernels)),
        _array("char *const", "features", map(_text, described.features)),
        *_tables(plan, kernels, offsets),
        *_infos("input", described.inputs, plan.inputs),
        *_infos("output", described.outputs, plan.outputs),
        _array("DLDataType", "output_dtypes", (_dtype(each.dtype) for each in plan.outputs)),
        _struct("tvm_eff_plan", "tvm_eff_the_plan", _plan_fields(plan, described)),
        _struct("tvm_eff_library", "tvm_eff_the_library", _library_fields(plan, described)),
    ]
    return "\n".join(parts) + "\n"


def _tables(plan: Plan, kernels: Sequence[str], offsets: Sequence[int]) -> list[str]:
    """The tensors, the calls and the copies."""
    calls = (
        f"{{{kernels.index(each.kernel)}, {len(each.tensors)}, call{number}}}"
        for number, each in enumerate(plan.calls)
    )
    copies = (
        f"{{{each.tensor}, {each.output}, {_bytes(plan.outputs[each.output])}}}"
        for each in plan.copies
    )
    planned = (_planned(number, each, offsets) for number, each in enumerate(plan.tensors))
    return [
        *(_shape(f"shape{number}", each.shape) for number, each in enumerate(plan.tensors)),
        _array("tvm_eff_planned", "tensors", planned),
        *(
            _array("int32_t", f"call{number}", map(str, each.tensors))
            for number, each in enumerate(plan.calls)
        ),
        _array("tvm_eff_call", "calls", calls),
        _array("tvm_eff_copy", "copies", copies),
    ]


def _plan_fields(plan: Plan, described: Description) -> dict[str, object]:
    """The fields of ``tvm_eff_plan`` in ``runtime/native/plan.h``."""
    named = ("tensors", "calls", "copies", "kernels", "kernel_names", "kernel_modules")
    return {
        "tensor_count": len(plan.tensors),
        "call_count": len(plan.calls),
        "at_load": plan.at_load,
        "copy_count": len(plan.copies),
        "feature_count": len(described.features),
        **{name: name for name in (*named, "output_dtypes", "features")},
        "weights": "tvm_eff_weights",
        "shared_workspace": described.shared_workspace,
        "thread_workspace": described.thread_workspace,
    }


def _library_fields(plan: Plan, described: Description) -> dict[str, object]:
    """The fields of ``tvm_eff_library`` in ``runtime/native/tvm_eff.h``."""
    functions = ("create", "run", "profile", "threads", "destroy", "last_error")
    return {
        "abi": "TVM_EFF_ABI",
        "name": _text(described.name),
        "built_for": _text(described.target),
        "input_count": len(plan.inputs),
        "inputs": "inputs",
        "output_count": len(plan.outputs),
        "outputs": "outputs",
        "arena_bytes": plan.arena_bytes,
        "weight_bytes": sum(each.nbytes for each in plan.constants),
        "kernel_count": len({call.kernel for call in plan.calls[plan.at_load :]}),
        **{name: f"tvm_eff_model_{name}" for name in functions},
    }


def _declared(kernel: str) -> str:
    return f"int __tvm_ffi_{kernel}(void *, const TVMFFIAny *, int32_t, TVMFFIAny *);"


def _array(kind: str, name: str, values: Iterable[str]) -> str:
    # C has no empty array.
    listed = ", ".join(values) or "0"
    return f"static const {kind} {name}[] = {{{listed}}};"


def _struct(kind: str, name: str, values: Mapping[str, object]) -> str:
    listed = ", ".join(f".{key} = {value}" for key, value in values.items())
    return f"const {kind} {name} = {{{listed}}};"


def _shape(name: str, shape: Sequence[int]) -> str:
    return _array("int64_t", name, map(str, shape))


def _planned(number: int, tensor: PlannedTensor, offsets: Sequence[int]) -> str:
    at = offsets[tensor.number] if tensor.place == "constant" else tensor.number
    return (
        f"{{TVM_EFF_{tensor.place.upper()}, {len(tensor.shape)}, {at}, shape{number}, "
        f"{_dtype(tensor.dtype)}}}"
    )


def _dtype(name: str) -> str:
    dtype = tvm.DataType(name)
    return f"{{{int(dtype.type_code)}, {dtype.bits}, {dtype.lanes}}}"


def _infos(what: str, names: Sequence[str], specs: Sequence[TensorSpec]) -> list[str]:
    shapes = [_shape(f"{what}_shape{number}", each.shape) for number, each in enumerate(specs)]
    infos = (
        f"{{{_text(name)}, {_text(spec.dtype)}, {len(spec.shape)}, {what}_shape{number}, "
        f"{_bytes(spec)}, {np.dtype(spec.dtype).itemsize}}}"
        for number, (name, spec) in enumerate(zip(names, specs, strict=True))
    )
    return [*shapes, _array("tvm_eff_tensor", f"{what}s", infos)]


def _bytes(spec: TensorSpec) -> int:
    return math.prod(spec.shape) * np.dtype(spec.dtype).itemsize


def _text(value: str) -> str:
    """A C string: what is no ASCII is written as the bytes of UTF-8."""
    return '"' + "".join(_character(each) for each in value.encode()) + '"'


def _character(byte: int) -> str:
    if byte in b'"\\' or not 32 <= byte < 127:
        return f"\\{byte:03o}"
    return chr(byte)
