"""What can be found out about the machine that this process runs on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from tvm_eff.errors import TargetError

# The machines that TVM's packages exist for.
_TRIPLES = {
    ("Linux", "x86_64"): "x86_64-linux-gnu",
    ("Linux", "aarch64"): "aarch64-linux-gnu",
    ("Darwin", "arm64"): "aarch64-apple-darwin",
}


class _Level(NamedTuple):
    """A vector unit of x86, and what LLVM calls a processor that has it."""

    vector_bytes: int
    registers: int
    mcpu: str
    flags: tuple[str, ...]


# A virtual machine may hide instructions that its processor's name implies, so the
# CPU is described by the flags it shows; they bear the same names in LLVM.
_V3 = ("avx2", "fma", "bmi2", "f16c")
_X86_LEVELS = (
    _Level(64, 32, "x86-64-v4", (*_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")),
    _Level(32, 16, "x86-64-v3", _V3),
    _Level(16, 16, "x86-64", ("sse2",)),
)
# Worth having, and spelt otherwise in LLVM.
_X86_EXTRAS = {"avx512_vnni": "avx512vnni", "avx512_bf16": "avx512bf16"}
# "CPU part" of /proc/cpuinfo, from the Main ID Register in Arm's reference manuals.
_ARM_PARTS = {
    "0xd03": "cortex-a53",
    "0xd05": "cortex-a55",
    "0xd07": "cortex-a57",
    "0xd08": "cortex-a72",
    "0xd0b": "cortex-a76",
    "0xd0c": "neoverse-n1",
    "0xd40": "neoverse-v1",
    "0xd49": "neoverse-n2",
}


def detect() -> dict[str, dict[str, Any]]:
    """Return the tables of a target file that describe this machine.

    Raises
    ------
    TargetError
        The operating system or processor is not one that is supported.
    """
    system, machine = platform.system(), platform.machine()
    triple = _TRIPLES.get((system, machine))
    if triple is None:
        raise TargetError(
            f"the target 'host' cannot describe {system} on {machine}: expected Linux on x86_64 or "
            "aarch64, or macOS on arm64; tune for a board instead, such as --target rasp4"
        )
    vector_bytes, registers, attributes = _x86() if machine == "x86_64" else _aarch64(system)
    l1d_kib, l2_kib = _caches()
    hardware = {
        "vector_bytes": vector_bytes,
        "vector_registers": registers,
        "clock_ghz": _clock_ghz(),
        "cores": usable_cores(),
        "l1d_kib": l1d_kib,
        "l2_kib": l2_kib,
    }
    zig = "aarch64-macos" if system == "Darwin" else triple
    return {
        "tvm": {"kind": "llvm", "mtriple": triple, **attributes},
        "hardware": hardware,
        "toolchain": {"triple": zig, "glibc": _glibc() if system == "Linux" else ""},
    }


def usable_cores() -> int:
    """Return how many cores this process may use: its affinity and its container's quota."""
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    quota = _read(Path("/sys/fs/cgroup/cpu.max")).split()
    if len(quota) == 2 and quota[0].isdigit():
        cores = min(cores, max(1, int(quota[0]) // int(quota[1])))
    return cores


def _glibc() -> str:
    libc, version = platform.libc_ver()
    if libc != "glibc":
        raise TargetError(
            "the target 'host' needs a Linux with glibc, which TVM's packages are made for; "
            "this one has another C library (Alpine?): use Debian or Ubuntu, also in a container"
        )
    return version


def _x86() -> tuple[int, int, dict[str, Any]]:
    flags = frozenset(_cpuinfo("flags").split())
    level = next((level for level in _X86_LEVELS if flags.issuperset(level.flags)), None)
    if level is None:
        raise TargetError(
            "cannot tell what this processor can do: /proc/cpuinfo shows no SSE2; "
            "mount /proc, or tune for a board instead, such as --target rasp4"
        )
    features = [f"+{name}" for name in level.flags]
    if level.vector_bytes == 64:
        features += [f"+{llvm}" for flag, llvm in _X86_EXTRAS.items() if flag in flags]
        # LLVM tunes this mcpu for 256-bit vectors where the width is its own choice.
        features.append("-prefer-256-bit")
    return level.vector_bytes, level.registers, {"mcpu": level.mcpu, "mattr": features}


def _aarch64(system: str) -> tuple[int, int, dict[str, Any]]:
    if system == "Darwin":
        return 16, 32, {"mcpu": "apple-m1", "mattr": ["+neon"]}
    part = _cpuinfo("CPU part").lower()
    return 16, 32, {"mcpu": _ARM_PARTS.get(part, "generic"), "mattr": ["+neon"]}


def _cpuinfo(key: str) -> str:
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""


def _caches() -> tuple[int, int]:
    """Return the KiB of the first core's L1 data and L2 cache; modest guesses if unknown."""
    sizes = {1: 32, 2: 256}
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        level, kind = _read(index / "level"), _read(index / "type")
        size = _read(index / "size")
        if level in ("1", "2") and kind in ("Data", "Unified") and size.endswith("K"):
            sizes[int(level)] = int(size[:-1])
    return sizes[1], sizes[2]


def _clock_ghz() -> float:
    """Return the top clock; it must not change with the load, as the current clock does."""
    top = _read(Path("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq"))
    if top.isdigit() and int(top) > 0:
        return round(int(top) / 1e6, 1)
    frequency = psutil.cpu_freq()
    if frequency is None:
        return 2.0
    return round((frequency.max or frequency.current) / 1e3, 1) or 2.0


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
