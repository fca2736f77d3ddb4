"""What a bundle says of itself: one JSON file, written and read strictly."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import msgspec

from tvm_eff import paths, strict
from tvm_eff.deploy.manifest_validation import (
    DataValidation,
    LayerPrecision,
    PrecisionChoice,
    QuantizationInfo,
    Validation,
)
from tvm_eff.errors import BundleError
from tvm_eff.strict import Count
from tvm_eff.targets import OpenCLRequirements
from tvm_eff.targets.architectures import name_in

__all__ = [
    "DataValidation",
    "EmulatorInfo",
    "KernelSchedule",
    "LayerPrecision",
    "MadeFor",
    "Manifest",
    "MemoryInfo",
    "PrecisionChoice",
    "QuantizationInfo",
    "TensorInfo",
    "Validation",
    "Versions",
    "WeightInfo",
    "read",
]

NAME = "manifest.json"

Runtime = Literal["native", "virtual-machine"]
RuntimeChoice = Literal["auto", "native", "virtual-machine"]
PackWeights = Literal["build", "load"]

Format = Literal["so", "a", "exe"]
"""What a native library is made as, besides the shared library that Python loads."""

FORMAT = 7
"""Version of the bundle's format; a reader refuses the versions it does not know."""

_READ = (1, 2, 3, 4, 5, 6, 7)
_ADVICE = "build or copy the bundle again"
_MOST_BYTES = 16 << 20


@dataclass(frozen=True)
class TensorInfo:
    """Name, shape and dtype of one input or output."""

    name: str
    shape: tuple[Count, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.name} ({' x '.join(map(str, self.shape)) or 'scalar'} {self.dtype})"


@dataclass(frozen=True)
class EmulatorInfo:
    """The processor that qemu stands in for."""

    arch: str
    cpu: str


@dataclass(frozen=True)
class MadeFor:
    """The target a library was compiled for.

    Attributes
    ----------
    name, log_name
        The target's name, and that of its folder of records.
    is_host
        Whether it was the machine that built it.
    tvm
        TVM's target attributes.
    cpu_features
        Features the processor must have, in the words of Linux's /proc/cpuinfo.
    triple, glibc
        The platform and the oldest glibc it was linked for.
    emulator
        The board's emulated stand-in, if it has one.
    opencl
        What the kernels need of a GPU; None if they run on the processor.
    """

    name: str
    log_name: str
    is_host: bool
    tvm: Mapping[str, str | Count | tuple[str, ...]] = field(hash=False)
    cpu_features: tuple[str, ...]
    triple: str
    glibc: str
    emulator: EmulatorInfo | None
    opencl: OpenCLRequirements | None = None

    def __post_init__(self) -> None:
        # Read from a file it is a dictionary, which somebody could change.
        object.__setattr__(self, "tvm", MappingProxyType(dict(self.tvm)))

    @property
    def arch(self) -> str:
        """The processor's architecture: aarch64, arm or x86_64."""
        return name_in(self.triple)


@dataclass(frozen=True)
class Versions:
    """What the bundle was made with; it needs the same TVM, the rest is for the record."""

    tvm_eff: str
    tvm: str
    tvm_ffi: str
    torch: str


@dataclass(frozen=True)
class KernelSchedule:
    """What a kernel of the library is scheduled by: a candidate, as in records.

    Attributes
    ----------
    rule
        The rule's name.
    decisions
        Its decisions, in sampling order.
    """

    rule: str
    decisions: Mapping[str, int] = field(hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "decisions", MappingProxyType(dict(self.decisions)))

    def __str__(self) -> str:
        inner = ", ".join(f"{name}={value}" for name, value in self.decisions.items())
        return f"{self.rule}({inner})"


@dataclass(frozen=True)
class WeightInfo:
    """A constant of the library, as its kernels read it.

    Attributes
    ----------
    parameters
        PyTorch's names of the parameters that it is computed from; empty for a constant.
    kernel
        The first kernel that reads it, by its name as lowered.
    shape, dtype
        What it looks like.
    bytes
        What it has in the library.
    model_bytes
        What those parameters have in the model. A parameter that several are computed from, as a
        batch norm's, counts with the first.
    algorithm
        What the kernel computes it by, if that takes it transformed, such as ``winograd``.
    """

    parameters: tuple[str, ...]
    kernel: str
    shape: tuple[Count, ...]
    dtype: str
    bytes: Count
    model_bytes: Count
    algorithm: str

    def before_transform(self) -> WeightInfo:
        """Return it as a library has it that transforms it when it is loaded."""
        return replace(self, bytes=min(self.bytes, self.model_bytes))


@dataclass(frozen=True)
class MemoryInfo:
    """What a native library allocates when a model of it is made.

    Attributes
    ----------
    arena
        Bytes for what lives between kernels.
    least
        Bytes that are in use at one time: no arena can be smaller.
    """

    arena: Count
    least: Count


@dataclass(frozen=True)
class Manifest:
    """Everything a bundle says of itself.

    Attributes
    ----------
    format
        Version of the format.
    model
        The model's name.
    function
        The function of the library to call.
    inputs, outputs
        Its tensors, in order.
    inputs_anywhere
        Whether an input may lie at any address that its elements may have, as numpy's arrays
        do; if not, at multiples of 64 bytes only.
    target
        What it was compiled for.
    versions
        What it was made with.
    files, sizes
        The SHA-256 of every other file, and how many bytes it has.
    validation
        How close it came to PyTorch.
    kernels
        What each kernel is scheduled by, by its name as lowered; empty if that is not known.
    weights
        The library's constants, in the order in which kernels read them; empty if that is not
        known.
    memory
        What it allocates; None if the virtual machine does, or that is not known.
    runtime
        What runs the library: TVM's virtual machine, or nothing but its own code.
    """

    format: int
    model: str
    function: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    inputs_anywhere: bool
    target: MadeFor
    versions: Versions
    files: Mapping[str, str] = field(hash=False)
    sizes: Mapping[str, Count] = field(hash=False)
    validation: Validation
    kernels: Mapping[str, KernelSchedule] = field(hash=False)
    runtime: Runtime = "virtual-machine"
    weights: tuple[WeightInfo, ...] = ()
    memory: MemoryInfo | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", MappingProxyType(dict(self.files)))
        object.__setattr__(self, "sizes", MappingProxyType(dict(self.sizes)))
        object.__setattr__(self, "kernels", MappingProxyType(dict(self.kernels)))

    def text(self) -> str:
        """Return it as the text of its file."""
        plain = msgspec.to_builtins(self, enc_hook=dict)  # asked about mapping proxies only
        return json.dumps(plain, indent=2, allow_nan=False) + "\n"


def read(path: Path, verify: Callable[[bytes], None] | None = None) -> Manifest:
    """Read the file of a manifest.

    Parameters
    ----------
    path
        The file.
    verify
        Refuses, with an error of its own, content that is not to be trusted.

    Raises
    ------
    BundleError
        The file cannot be read, is damaged, or has a format that is not known.
    """
    content = paths.read_regular(path, _MOST_BYTES, BundleError, _ADVICE)
    if verify is not None:
        verify(content)
    data = strict.decode_json(content, where=path, error=BundleError, advice=_ADVICE)
    version = data.get("format") if isinstance(data, dict) else None
    if type(version) is int and version not in _READ:
        raise BundleError(
            f"{path} has format {version}, and this tvm_eff reads formats "
            f"{_READ[0]} to {_READ[-1]}; "
            "build the bundle again, or use the tvm_eff it was built with"
        )
    data = _upgraded(data) if type(version) is int and version < FORMAT else data
    found = strict.convert(
        data, Manifest, where=path, error=BundleError, advice=_ADVICE, complete=True
    )
    errors = found.validation.reference_errors
    if errors and len(errors) != len(found.outputs):
        raise BundleError(
            f"{path}: 'validation.reference_errors' has {len(errors)} values for "
            f"{len(found.outputs)} outputs; {_ADVICE}"
        )
    return found


def _upgraded(data: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest of an earlier format as one of this, which has more to say."""
    # What was measured is no part of it since format 7, which has the weights and the memory.
    data = {key: value for key, value in data.items() if key != "measurement"}
    data = {**data, "weights": [], "memory": None}
    if isinstance(data.get("validation"), dict):
        # Nothing was quantized before format 7.
        data = {**data, "validation": {**data["validation"], "quantization": None}}
    if data["format"] == 6:
        return data
    # What kernels are scheduled by is said since format 6.
    data = {**data, "kernels": {}}
    # Nothing asked about PyTorch's own error, and before that the import was not checked.
    data = {**data, "runtime": "virtual-machine"}
    missing: dict[str, Any] = {
        "reference_errors": [],
        "half_precision_limit": None,
        "data": None,
    }
    if data["format"] < 5:
        missing["operators_proved"] = None
    if isinstance(data.get("validation"), dict):
        data = {**data, "validation": {**data["validation"], **missing}}
    if data["format"] > 3:
        return data
    # Earlier formats do not know the sizes.
    data = {**data, "sizes": {}}
    if data["format"] > 2:
        return data
    data["inputs_anywhere"] = False
    if data["format"] > 1:
        return data
    added: dict[str, dict[str, Any]] = {
        "target": {"opencl": None},
        "validation": {"dtype": "float32", "same_class": None},
    }
    old = {key: data[key] for key in added if isinstance(data.get(key), dict)}
    return {**data, **{key: {**added[key], **part} for key, part in old.items()}}
