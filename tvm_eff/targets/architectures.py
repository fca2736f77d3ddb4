"""The one table of processor architectures: what each is called by whom, and what it has."""

from __future__ import annotations

import fnmatch
import platform
import re
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True)
class Platform:
    """An architecture under one operating system: what code is compiled for.

    Attributes
    ----------
    system
        What ``platform.system()`` says on it.
    machine
        What ``platform.machine()`` and ``uname -m`` say on it.
    llvm
        LLVM's triple; LLVM crashes on a triple that it does not know.
    zig
        zig's triple without a version; it starts with the architecture's name.
    runs_tvm
        Whether TVM's packages exist for it, so that tvm_eff itself runs on it.
    mcpu
        LLVM's name of its oldest processor, where the system does not tell which one it has.
    """

    system: str
    machine: str
    llvm: str
    zig: str
    runs_tvm: bool
    mcpu: str = ""

    @property
    def architecture(self) -> Architecture:
        """Its processor architecture."""
        return ARCHITECTURES[name_in(self.zig)]


@dataclass(frozen=True)
class VectorUnit:
    """A vector unit that processors of an architecture may have.

    Attributes
    ----------
    name
        Names the folder of a host's records.
    vector_bytes
        Width of a register.
    registers
        How many registers a program can name.
    mcpu
        What LLVM calls a processor of which no more is known.
    features
        LLVM's names of what code for it uses.
    extras
        LLVM's names of what code for it uses where the processor has it.
    tuning
        What LLVM has to be told besides, with its sign.
    """

    name: str
    vector_bytes: int
    registers: int
    mcpu: str
    features: tuple[str, ...]
    extras: tuple[str, ...] = ()
    tuning: tuple[str, ...] = ()


@dataclass(frozen=True)
class Architecture:
    """A processor architecture.

    Attributes
    ----------
    name
        Our name of it, which zig uses too.
    platforms
        What code is compiled for; Linux is the first.
    other_machines
        Patterns of what ``platform.machine()`` may say besides what its platforms say.
    debian
        Debian's name.
    gnu
        GNU's triple: the folder of Debian's libraries, the prefix of cross-compilers.
    loader
        The file name of Linux's dynamic loader.
    qemu
        The executable of qemu's user-mode emulator.
    cpuinfo_key
        The key of the processor's features in Linux's ``/proc/cpuinfo``.
    linux_features
        Features that a compiler uses by itself in a network, by LLVM's name: what
        ``/proc/cpuinfo`` calls them.
    vector_units
        Its vector units, the widest first.
    private_caches
        Whether what another core has just written has to come from its second cache.
    half_arithmetic
        LLVM's name of the feature that computes in vectors of float16; empty if kernels use none.
    cpu_parts
        LLVM's processors by "CPU part" of ``/proc/cpuinfo``.
    emulated_cpus
        qemu's processors that boards may be emulated with; none if it is not emulated.
    default_cpu
        The one of them that is emulated if nothing else is asked for.
    """

    name: str
    platforms: tuple[Platform, ...]
    other_machines: tuple[str, ...]
    debian: str
    gnu: str
    loader: str
    qemu: str
    cpuinfo_key: str
    linux_features: Mapping[str, str] = field(hash=False)
    vector_units: tuple[VectorUnit, ...]
    private_caches: bool = False
    half_arithmetic: str = ""
    cpu_parts: Mapping[str, str] = field(default_factory=dict, hash=False)
    emulated_cpus: tuple[str, ...] = ()
    default_cpu: str = ""

    @property
    def linux(self) -> Platform:
        """The platform that boards run."""
        return self.platforms[0]

    def vector_unit(self, shown: Collection[str]) -> VectorUnit | None:
        """Return the widest vector unit of a processor, or None if it shows none.

        Parameters
        ----------
        shown
            The features that ``/proc/cpuinfo`` shows.
        """
        if len(self.vector_units) == 1:  # every processor has it, even if nothing is shown
            return self.vector_units[0]
        return next((unit for unit in self.vector_units if self._has(unit, shown)), None)

    def vector_unit_of(self, vector_bytes: int) -> VectorUnit:
        """Return the widest vector unit whose registers are no wider than `vector_bytes`."""
        fitting = (unit for unit in self.vector_units if unit.vector_bytes <= vector_bytes)
        return next(fitting, self.vector_units[-1])

    def shows(self, feature: str, shown: Collection[str]) -> bool:
        """Whether LLVM's `feature` is among those that ``/proc/cpuinfo`` shows."""
        return self.linux_features.get(feature, feature) in shown

    def _has(self, unit: VectorUnit, shown: Collection[str]) -> bool:
        return all(self.shows(feature, shown) for feature in unit.features)


# A virtual machine may hide instructions that its processor's name implies, so that what a
# unit needs is said in full.
_AVX2 = ("avx2", "fma", "bmi2", "f16c")
_AVX512 = ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")

_AARCH64 = Architecture(
    name="aarch64",
    platforms=(
        Platform("Linux", "aarch64", "aarch64-linux-gnu", "aarch64-linux-gnu", True),
        # Apple's M1: LLVM's "apple-m1" is an alias of this, which its list of processors omits.
        Platform("Darwin", "arm64", "aarch64-apple-darwin", "aarch64-macos", True, "apple-a14"),
    ),
    other_machines=(),
    debian="arm64",
    gnu="aarch64-linux-gnu",
    loader="ld-linux-aarch64.so.1",
    qemu="qemu-aarch64",
    cpuinfo_key="Features",
    linux_features={
        "neon": "asimd",
        "dotprod": "asimddp",
        "fullfp16": "asimdhp",
        "rdm": "asimdrdm",
        "lse": "atomics",
        **{name: name for name in ("i8mm", "bf16", "sve", "sve2")},
    },
    vector_units=(VectorUnit("neon", 16, 32, "generic", ("neon",), ("dotprod",)),),
    half_arithmetic="fullfp16",
    # From the Main ID Register in Arm's reference manuals.
    cpu_parts={
        "0xd03": "cortex-a53",
        "0xd05": "cortex-a55",
        "0xd07": "cortex-a57",
        "0xd08": "cortex-a72",
        "0xd0b": "cortex-a76",
        "0xd0c": "neoverse-n1",
        "0xd40": "neoverse-v1",
        "0xd49": "neoverse-n2",
    },
    # Those of qemu-user 7.2; later ones have more, no fewer.
    emulated_cpus=(
        *("cortex-a35", "cortex-a53", "cortex-a57", "cortex-a72", "cortex-a76"),
        *("neoverse-n1", "a64fx", "max"),
    ),
    default_cpu="cortex-a72",
)

_ARM = Architecture(
    name="arm",
    platforms=(
        Platform("Linux", "armv7l", "armv7l-linux-gnueabihf", "arm-linux-gnueabihf", False),
    ),
    other_machines=("armv*",),
    debian="armhf",
    gnu="arm-linux-gnueabihf",
    loader="ld-linux-armhf.so.3",
    qemu="qemu-arm",
    cpuinfo_key="Features",
    linux_features={"neon": "neon", "vfp4": "vfpv4"},
    vector_units=(VectorUnit("neon", 16, 16, "generic", ("neon",)),),
    emulated_cpus=("cortex-a7", "cortex-a8", "cortex-a9", "cortex-a15", "max"),
    default_cpu="max",
)

_X86_64 = Architecture(
    name="x86_64",
    platforms=(Platform("Linux", "x86_64", "x86_64-linux-gnu", "x86_64-linux-gnu", True),),
    other_machines=("AMD64",),
    debian="amd64",
    gnu="x86_64-linux-gnu",
    loader="ld-linux-x86-64.so.2",
    qemu="qemu-x86_64",
    cpuinfo_key="flags",
    linux_features={
        **{name: name for name in ("avx", "avx2", "fma", "f16c", "bmi2", *_AVX512)},
        "sse3": "pni",
        "sse4.1": "sse4_1",
        "sse4.2": "sse4_2",
        **{name: name for name in ("ssse3", "popcnt")},
        "avx512vnni": "avx512_vnni",
        "avxvnni": "avx_vnni",
        "avx512bf16": "avx512_bf16",
        "amx-tile": "amx_tile",
        "amx-int8": "amx_int8",
    },
    vector_units=(
        VectorUnit(
            name="avx512",
            vector_bytes=64,
            registers=32,
            mcpu="x86-64-v4",
            features=(*_AVX2, *_AVX512),
            extras=("avx512vnni", "avx512bf16", "amx-tile", "amx-int8"),
            # LLVM tunes this mcpu for 256-bit vectors where the width is its own choice.
            tuning=("-prefer-256-bit",),
        ),
        VectorUnit("avx2", 32, 16, "x86-64-v3", _AVX2, extras=("avxvnni",)),
        VectorUnit("sse", 16, 16, "x86-64", ("sse2",)),
    ),
    private_caches=True,
)

ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {each.name: each for each in (_AARCH64, _ARM, _X86_64)}
)
"""All of them, by name."""

PLATFORMS: Mapping[str, Platform] = MappingProxyType(
    {each.llvm: each for found in ARCHITECTURES.values() for each in found.platforms}
)
"""What code can be compiled for, by LLVM's triple."""


_MODALIAS_FEATURES: Mapping[str, Mapping[int, str]] = {
    # Bits of AT_HWCAP: Linux, arch/arm64/include/uapi/asm/hwcap.h.
    "aarch64": {
        **{0: "fp", 1: "asimd", 3: "aes", 4: "pmull", 5: "sha1", 6: "sha2", 7: "crc32"},
        **{8: "atomics", 9: "fphp", 10: "asimdhp", 12: "asimdrdm", 13: "jscvt", 14: "fcma"},
        **{15: "lrcpc", 17: "sha3", 20: "asimddp", 21: "sha512", 22: "sve"},
    },
    # Word and bit of X86_FEATURE_*: Linux, arch/x86/include/asm/cpufeatures.h.
    "x86": {
        **{26: "sse2", 4 * 32: "pni", 4 * 32 + 9: "ssse3", 4 * 32 + 19: "sse4_1"},
        **{4 * 32 + 20: "sse4_2", 4 * 32 + 23: "popcnt", 4 * 32 + 12: "fma"},
        **{4 * 32 + 28: "avx", 4 * 32 + 29: "f16c"},
        **{9 * 32 + 5: "avx2", 9 * 32 + 8: "bmi2", 9 * 32 + 16: "avx512f"},
        **{9 * 32 + 17: "avx512dq", 9 * 32 + 28: "avx512cd", 9 * 32 + 30: "avx512bw"},
        **{
            9 * 32 + 31: "avx512vl",
            12 * 32 + 5: "avx512_bf16",
            12 * 32 + 4: "avx_vnni",
            16 * 32 + 11: "avx512_vnni",
            18 * 32 + 24: "amx_tile",
            18 * 32 + 25: "amx_int8",
        },
    },
}
_ELF_MACHINES = {40: "arm", 62: "x86_64", 183: "aarch64"}  # EM_ARM, EM_X86_64, EM_AARCH64


def features_of_modalias(text: str) -> list[str]:
    """Return features by ``/sys/devices/system/cpu/modalias``, as ``/proc/cpuinfo`` calls them.

    A board's files are read through its server, which cannot read those of ``/proc``. Only
    features are told that code may need.
    """
    kind, _, listed = text.removeprefix("cpu:type:").partition(":feature:")
    known = _MODALIAS_FEATURES.get(kind.partition(",")[0], {})
    numbers = re.findall(r"[0-9A-Fa-f]+", listed)
    return [known[number] for each in numbers if (number := int(each, 16)) in known]


def of_elf(header: bytes) -> str | None:
    """Return the architecture that a program is for, by its ELF header; None if it is unknown."""
    if len(header) < 20 or header[:4] != b"\x7fELF":
        return None
    machine = int.from_bytes(header[18:20], "little" if header[5] == 1 else "big")
    return _ELF_MACHINES.get(machine)


def name_in(triple: str) -> str:
    """Return the architecture's name in zig's triple of a platform, be it known or not."""
    return triple.partition("-")[0]


def system_in(triple: str) -> str:
    """Return the operating system of zig's triple of a platform: Linux if it is not known."""
    return next((each.system for each in PLATFORMS.values() if each.zig == triple), "Linux")


def of_machine(machine: str) -> Architecture | None:
    """Return the architecture of what ``platform.machine()`` says somewhere."""
    return next((each for each in ARCHITECTURES.values() if _is_called(each, machine)), None)


def of_this_process() -> str:
    """Return the name of this process's architecture: the system's own name if not known."""
    machine = platform.machine()
    found = of_machine(machine)
    # A 32-bit Python runs on a 64-bit kernel too.
    if found is _AARCH64 and sys.maxsize < 2**32:
        return _ARM.name
    return machine if found is None else found.name


def _is_called(architecture: Architecture, machine: str) -> bool:
    own = (each.machine for each in architecture.platforms)
    patterns = (*own, *architecture.other_machines)
    return any(fnmatch.fnmatchcase(machine, pattern) for pattern in patterns)
