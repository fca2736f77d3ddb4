"""What tvm_eff compiles for: each target is one TOML file, read strictly.

A board is data: its TVM target attributes, the facts of its processor that the
design space is derived from, its toolchain, its emulated stand-in and its RPC
key. The file ``host.toml`` leaves out what :mod:`tvm_eff.host` finds out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tvm_eff import data, host
from tvm_eff._target_file import Table, read_toml
from tvm_eff.errors import TargetError, nearest

if TYPE_CHECKING:
    from tvm.target import Target as TvmTarget

FLOAT32_BYTES = 4


@dataclass(frozen=True)
class _Platform:
    """One platform in the words of LLVM's, zig's and qemu's users."""

    zig: str
    emulator_cpus: tuple[str, ...] = ()

    @property
    def arch(self) -> str:
        return self.zig.partition("-")[0]


# By LLVM's triple: LLVM crashes on a triple that it does not know. The emulated
# processors are those of qemu-user 7.2; later ones have more, no fewer.
_PLATFORMS = {
    "aarch64-linux-gnu": _Platform(
        "aarch64-linux-gnu",
        (
            *("cortex-a35", "cortex-a53", "cortex-a57", "cortex-a72", "cortex-a76"),
            *("neoverse-n1", "a64fx", "max"),
        ),
    ),
    "armv7l-linux-gnueabihf": _Platform(
        "arm-linux-gnueabihf", ("cortex-a7", "cortex-a8", "cortex-a9", "cortex-a15", "max")
    ),
    "x86_64-linux-gnu": _Platform("x86_64-linux-gnu"),
    "aarch64-apple-darwin": _Platform("aarch64-macos"),
}


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
        units = {64: "avx512", 32: "avx2", 16: "sse"}
        is_x86 = self.toolchain.triple.startswith("x86_64")
        unit = units[self.hardware.vector_bytes] if is_x86 else "neon"
        return f"{self.name}-{unit}"

    @property
    def lanes(self) -> int:
        """How many float32 values make a vector where its kernels run."""
        return self.hardware.lanes if self.gpu is None else self.gpu.lanes

    @property
    def private_caches(self) -> bool:
        """Whether what another core has just written has to come from its second cache."""
        return self.gpu is None and self.toolchain.triple.startswith("x86_64")

    def tvm_target(self) -> TvmTarget:
        """Return it as TVM's own target.

        Raises
        ------
        TargetError
            TVM or LLVM does not know an attribute, the CPU or a CPU feature.
        """
        from tvm_eff._tvm_target import make

        return make(self.tvm, self.path, self.gpu)

    def __getstate__(self) -> dict[str, Any]:
        # A mapping proxy cannot be pickled, and targets travel to worker processes.
        return {**self.__dict__, "tvm": dict(self.tvm)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, tvm=MappingProxyType(state["tvm"]))


def names() -> list[str]:
    """Return the names of the targets that ship with the package."""
    return sorted(path.stem for path in data.folder("targets").glob("*.toml"))


def load(name_or_path: str | Path) -> Target:
    """Read a target.

    Parameters
    ----------
    name_or_path
        The name of a shipped target, or the path of a target file: it ends with
        ``.toml`` or contains a path separator.

    Raises
    ------
    TargetError
        No such target or file, or the file is not a valid target.
    """
    word = str(name_or_path)
    if isinstance(name_or_path, Path) or word.endswith(".toml") or "/" in word or "\\" in word:
        return _parse(Path(word))
    if word not in names():
        raise TargetError(
            f"unknown target '{word}'{nearest(word, names())} "
            "(a board of your own goes by the path of its .toml file)"
        )
    return _parse(data.folder("targets") / f"{word}.toml")


def launched_from_here(target: Target) -> Target:
    """Return a target with this machine as the processor that launches its GPU's kernels.

    The kernels are the same; so are the records of what was tried.

    Raises
    ------
    TargetError
        This machine is not one that is supported.
    """
    here = load("host")
    return replace(target, tvm=here.tvm, hardware=here.hardware, toolchain=here.toolchain)


def _parse(path: Path) -> Target:
    top = Table(read_toml(path), path)
    detected = top.flag("detect", default=False)
    if detected:
        top = top.filled_with(host.detect())
    parts = {key: top.table(key) for key in ("tvm", "hardware", "toolchain", "rpc")}
    emulated, gpu = top.optional_table("emulator"), top.optional_table("gpu")
    name, description = top.name("name"), top.text("description")
    top.finish()

    hardware = _hardware(parts["hardware"])
    attributes = _tvm(parts["tvm"], hardware.cores)
    platform = _PLATFORMS[attributes["mtriple"]]
    return Target(
        name=name,
        description=description,
        path=path,
        tvm=attributes,
        hardware=hardware,
        toolchain=_toolchain(parts["toolchain"], platform),
        emulator=None if emulated is None else _emulator(emulated, platform),
        rpc=_rpc(parts["rpc"]),
        gpu=None if gpu is None else _gpu(gpu),
        detected=detected,
    )


def _tvm(table: Table, cores: int) -> Mapping[str, Any]:
    attributes: dict[str, Any] = {
        "kind": table.choice("kind", ("llvm",)),
        "mtriple": table.choice("mtriple", tuple(_PLATFORMS)),
        "mcpu": table.text("mcpu"),
    }
    if table.has("mattr"):
        attributes["mattr"] = table.features("mattr")
    if table.has("mfloat-abi"):
        attributes["mfloat-abi"] = table.choice("mfloat-abi", ("hard", "soft"))
    table.finish()
    return MappingProxyType({**attributes, "num-cores": cores})


def _hardware(table: Table) -> Hardware:
    hardware = Hardware(
        vector_bytes=table.power_of_two("vector_bytes", 8, 256),
        vector_registers=table.integer("vector_registers", 8, 256),
        fma_per_cycle=table.integer("fma_per_cycle", 1, 8),
        issue_width=table.integer("issue_width", 1, 16),
        clock_ghz=table.number("clock_ghz", 0.1, 10.0),
        cores=table.integer("cores", 1, 1024),
        l1d_kib=table.integer("l1d_kib", 1, 1 << 20),
        l2_kib=table.integer("l2_kib", 1, 1 << 20),
    )
    table.finish()
    return hardware


def _gpu(table: Table) -> Gpu:
    gpu = Gpu(
        device=table.choice("device", ("mali", "any")),
        opencl=table.version("opencl"),
        float16=table.flag("float16", default=False),
        vector_bytes=table.power_of_two("vector_bytes", 4, 64),
        registers=table.integer("registers", 16, 1024),
        work_group=table.integer("work_group", 16, 4096),
        local_memory_kib=table.integer("local_memory_kib", 1, 1 << 10),
        cores=table.integer("cores", 1, 1024),
        fma_per_cycle=table.integer("fma_per_cycle", 1, 4096),
        clock_ghz=table.number("clock_ghz", 0.1, 10.0),
        l2_kib=table.integer("l2_kib", 1, 1 << 20),
    )
    table.finish()
    return gpu


def _toolchain(table: Table, platform: _Platform) -> Toolchain:
    triple = table.choice("triple", (platform.zig,))
    glibc = table.version("glibc") if "-linux-" in triple else table.text("glibc", empty=True)
    table.finish()
    return Toolchain(triple, glibc)


def _emulator(table: Table, platform: _Platform) -> Emulator:
    if not platform.emulator_cpus:
        table.refuse_whole("only 64-bit and 32-bit Arm boards with Linux are emulated")
    arch = table.choice("arch", (platform.arch,))
    cpu = table.choice("cpu", platform.emulator_cpus)
    table.finish()
    return Emulator(arch, cpu)


def _rpc(table: Table) -> Rpc:
    rpc = Rpc(key=table.name("key"), port=table.integer("port", 1, 65535))
    table.finish()
    return rpc
