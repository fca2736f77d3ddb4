"""What a target is: the facts that schedules, code generation and devices are derived from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tvm_eff.targets.architectures import ARCHITECTURES, Architecture, name_in

if TYPE_CHECKING:
    from tvm.target import Target as TvmTarget

FLOAT32_BYTES = 4


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

    vector_bytes: int
    vector_registers: int
    fma_per_cycle: int
    issue_width: int
    clock_ghz: float
    cores: int
    l1d_kib: int
    l2_kib: int

    @property
    def lanes(self) -> int:
        """How many float32 values a vector register holds."""
        return self.vector_bytes // FLOAT32_BYTES


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

    device: str
    opencl: str
    float16: bool
    vector_bytes: int
    registers: int
    work_group: int
    local_memory_kib: int
    cores: int
    fma_per_cycle: int
    clock_ghz: float
    l2_kib: int

    @property
    def lanes(self) -> int:
        """How many float32 values it loads at once."""
        return self.vector_bytes // FLOAT32_BYTES


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

    triple: str
    glibc: str

    @property
    def zig_triple(self) -> str:
        """The platform with its glibc floor, such as ``aarch64-linux-gnu.2.31``."""
        return f"{self.triple}.{self.glibc}" if self.glibc else self.triple


@dataclass(frozen=True)
class Emulator:
    """The processor that qemu is to stand in for: its ``-cpu`` of one architecture."""

    arch: str
    cpu: str


@dataclass(frozen=True)
class Rpc:
    """The key a board announces to a tracker, and the port of its RPC server."""

    key: str
    port: int


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
        """How many float32 values make a vector where its kernels run."""
        return self.hardware.lanes if self.gpu is None else self.gpu.lanes

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
