"""What a target is: the facts that schedules, code generation and devices are derived from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta

from tvm_eff.targets.architectures import ARCHITECTURES, Architecture, name_in

if TYPE_CHECKING:
    from tvm.target import Target as TvmTarget

FLOAT32_BYTES = 4
FLOAT16_BYTES = 2

DOT_PRODUCTS = ("avx2", "avx512bw", "avx512vnni", "avxvnni", "neon")
"""LLVM's names of the features by which dot products of four bytes are added to a sum."""

_A_VERSION = 'a version in quotes, such as "2.31"'

Text = Annotated[str, Meta(pattern=r"\S", description="a string that is not empty")]
Name = Annotated[
    str,
    Meta(
        pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]*\Z",
        description="a name of letters, digits, '.', '_' and '-', such as \"rasp4\"",
    ),
]
Version = Annotated[str, Meta(pattern=r"\A\d+\.\d+\Z", description=_A_VERSION)]
Clock = Annotated[float, Meta(ge=0.1, le=10.0)]
Cores = Annotated[int, Meta(ge=1, le=1024)]
CacheKib = Annotated[int, Meta(ge=1, le=1 << 20)]


@dataclass(frozen=True)
class Hardware:
    """The facts of one core that schedules are derived from.

    Parameters
    ----------
    vector_bytes
        Width of a vector register.
    vector_registers
        How many vector registers a program can name.
    fma_per_cycle
        Vector fused multiply-adds issued a cycle.
    issue_width
        Instructions issued a cycle, all kinds together.
    clock_ghz
        Top clock.
    cores
        Cores to spread work over.
    l1d_kib, l2_kib
        Data cache of a core, and the next level as one core sees it.
    """

    vector_bytes: Annotated[
        Literal[8, 16, 32, 64, 128, 256], Meta(description="a power of two from 8 to 256")
    ]
    vector_registers: Annotated[int, Meta(ge=8, le=256)]
    fma_per_cycle: Annotated[int, Meta(ge=1, le=8)]
    issue_width: Annotated[int, Meta(ge=1, le=16)]
    clock_ghz: Clock
    cores: Cores
    l1d_kib: CacheKib
    l2_kib: CacheKib

    @property
    def value_bytes(self) -> int:
        """Bytes of one of the values that kernels compute with."""
        return FLOAT32_BYTES

    @property
    def lanes(self) -> int:
        """How many of these values a vector register holds."""
        return self.vector_bytes // self.value_bytes

    @property
    def peak_fma_per_second(self) -> float:
        """Vector multiply-adds that all cores do in a second at the top clock."""
        return self.fma_per_cycle * self.clock_ghz * 1e9 * self.cores


@dataclass(frozen=True)
class HalfHardware(Hardware):
    """The same core as kernels of float16 see it: twice as many values in a vector."""

    @property
    def value_bytes(self) -> int:
        """Bytes of a float16."""
        return FLOAT16_BYTES


@dataclass(frozen=True)
class Gpu:
    """The OpenCL device that kernels run on, where it is not the processor itself.

    Parameters
    ----------
    device
        TVM's name of the family, ``mali``, or ``any`` for whatever device there is.
    opencl
        The version of OpenCL that its driver has at least.
    float16
        Whether it computes in half precision (``cl_khr_fp16``).
    vector_bytes
        The widest vector it loads at once.
    registers
        32-bit registers that a work-item may use.
    work_group
        Work-items in a work-group, at most.
    local_memory_kib
        Local memory of a work-group, whether or not it is a memory of its own.
    cores
        Shader cores to spread work over.
    fma_per_cycle
        Float32 multiply-adds a cycle and core.
    clock_ghz
        Top clock.
    l2_kib
        The cache that all cores share.
    """

    device: Literal["mali", "any"]
    opencl: Version
    float16: bool = field(default=False, kw_only=True)
    vector_bytes: Annotated[
        Literal[4, 8, 16, 32, 64], Meta(description="a power of two from 4 to 64")
    ]
    registers: Annotated[int, Meta(ge=16, le=1024)]
    work_group: Annotated[int, Meta(ge=16, le=4096)]
    local_memory_kib: Annotated[int, Meta(ge=1, le=1 << 10)]
    cores: Cores
    fma_per_cycle: Annotated[int, Meta(ge=1, le=4096)]
    clock_ghz: Clock
    l2_kib: CacheKib

    @property
    def lanes(self) -> int:
        """How many float32 values it loads at once."""
        return self.vector_bytes // FLOAT32_BYTES

    @property
    def peak_fma_per_second(self) -> float:
        """Vector multiply-adds that all cores do in a second at the top clock."""
        return self.fma_per_cycle / self.lanes * self.clock_ghz * 1e9 * self.cores


@dataclass(frozen=True)
class Toolchain:
    """How libraries are linked for the target.

    Parameters
    ----------
    triple
        zig's name of the platform, such as ``aarch64-linux-gnu``.
    glibc
        The oldest glibc the libraries must run on; empty where there is none.
    """

    triple: Text
    glibc: Annotated[str, Meta(pattern=r"\A(\d+\.\d+)?\Z", description=_A_VERSION)]

    @property
    def zig_triple(self) -> str:
        """The platform with its glibc floor, such as ``aarch64-linux-gnu.2.31``."""
        return f"{self.triple}.{self.glibc}" if self.glibc else self.triple


@dataclass(frozen=True)
class Emulator:
    """The processor that qemu is to stand in for: its ``-cpu`` of one architecture."""

    arch: Text
    cpu: Text


@dataclass(frozen=True)
class Rpc:
    """The key a board announces to a tracker, and the port of its RPC server."""

    key: Name
    port: Annotated[int, Meta(ge=1, le=65535)]


@dataclass(frozen=True)
class Target:
    """One machine to compile for; see :func:`load`.

    Parameters
    ----------
    name
        Names the target and its folder of records.
    description
        One line for people.
    path
        The file it was read from.
    tvm
        TVM's attributes of the processor, ``num-cores`` included.
    gpu
        The device that kernels run on, launched by the processor; None if it runs them itself.
    detected
        Whether it is the machine this process runs on.
    """

    name: str
    description: str
    path: Path
    tvm: Mapping[str, Any] = field(hash=False)
    hardware: Hardware
    toolchain: Toolchain
    emulator: Emulator | None
    rpc: Rpc
    gpu: Gpu | None = None
    detected: bool = False

    @property
    def is_host(self) -> bool:
        """Whether it is the machine this process runs on."""
        return self.detected

    @property
    def log_name(self) -> str:
        """The folder of its records; a host's is named after its vector unit."""
        if not self.detected or self.gpu is not None:
            return self.name
        return f"{self.name}-{self.architecture.vector_unit_of(self.hardware.vector_bytes).name}"

    @property
    def architecture(self) -> Architecture:
        """The architecture of its processor."""
        return ARCHITECTURES[name_in(self.toolchain.triple)]

    @property
    def lanes(self) -> int:
        """How many values make a vector where its kernels run: float32, or see `in_float16`."""
        return self.hardware.lanes if self.gpu is None else self.gpu.lanes

    @property
    def dot_product(self) -> int:
        """How many products of bytes one instruction adds to a sum; 1 where none is used."""
        return 4 if self.gpu is None and any(map(self.has, DOT_PRODUCTS)) else 1

    def has(self, feature: str) -> bool:
        """Whether its file says that its processor has a feature, by LLVM's name."""
        return f"+{feature}" in self.tvm.get("mattr", ())

    def lanes_of(self, dtype: str) -> int:
        """Return how many values of a dtype a processor's vector has; a GPU's as of float32."""
        halves = dtype == "float16" and self.gpu is None
        return self.in_float16().lanes if halves else self.lanes

    @property
    def float16(self) -> bool:
        """Whether its kernels can compute in half precision, on the GPU or on the processor."""
        if self.gpu is not None:
            return self.gpu.float16
        from tvm_eff.targets.tvm_target import features

        return self.architecture.half_arithmetic in features(self.tvm)

    def in_float16(self) -> Target:
        """Return the target as kernels see it whose activations and weights are float16."""
        facts = {each.name: getattr(self.hardware, each.name) for each in fields(self.hardware)}
        return replace(self, hardware=HalfHardware(**facts))

    @property
    def private_caches(self) -> bool:
        """Whether what another core has just written has to come from its second cache."""
        return self.gpu is None and self.architecture.private_caches

    def tvm_target(self) -> TvmTarget:
        """Return it as TVM's own target.

        Raises
        ------
        TargetError
            TVM or LLVM does not know an attribute, the CPU or a CPU feature.
        """
        from tvm_eff.targets.tvm_target import make

        return make(self.tvm, self.path, self.gpu)

    def __getstate__(self) -> dict[str, Any]:
        # A mapping proxy cannot be pickled, and targets travel to worker processes.
        return {**self.__dict__, "tvm": dict(self.tvm)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, tvm=MappingProxyType(state["tvm"]))
