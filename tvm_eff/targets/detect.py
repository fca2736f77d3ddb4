"""What can be found out about the machine that this process runs on."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Collection
from pathlib import Path
from typing import Any

from tvm_eff.errors import TargetError
from tvm_eff.targets import architectures
from tvm_eff.targets.architectures import Platform, VectorUnit

_TILES = frozenset({"amx_tile", "amx_int8"})
# Linux: arch_prctl(ARCH_GET_XCOMP_SUPP, ...) of x86-64, whose bit XFEATURE_XTILEDATA is for tiles.
_ARCH_PRCTL, _SUPPORTED, _TILE_DATA = 158, 0x1021, 18


def detect() -> dict[str, dict[str, Any]]:
    """Return the tables of a target file that describe this machine.

    Raises
    ------
    TargetError
        The operating system or processor is not one that is supported.
    """
    here = _platform()
    shown = processor_features()
    unit = _vector_unit(here, shown)
    l1d_kib, l2_kib = _caches()
    hardware = {
        "vector_bytes": unit.vector_bytes,
        "vector_registers": unit.registers,
        "clock_ghz": _clock_ghz(),
        "cores": usable_cores(),
        "l1d_kib": l1d_kib,
        "l2_kib": l2_kib,
    }
    return {
        "tvm": {"kind": "llvm", "mtriple": here.llvm, **_processor(here, unit, shown)},
        "hardware": hardware,
        "toolchain": {"triple": here.zig, "glibc": _glibc() if here.system == "Linux" else ""},
    }


def processor_features() -> frozenset[str]:
    """Return what Linux says of the first processor; nothing where that is not known."""
    known = architectures.ARCHITECTURES.get(architectures.of_this_process())
    shown = frozenset(_cpuinfo(known.cpuinfo_key).split()) if known else frozenset()
    return shown if shown.isdisjoint(_TILES) or _grants_tiles() else shown - _TILES


def _grants_tiles() -> bool:
    """Whether the system lets a process use the tile registers of AMX; a sandbox may not."""
    granted = ctypes.c_uint64()
    asked = ctypes.CDLL(None).syscall(_ARCH_PRCTL, _SUPPORTED, ctypes.byref(granted))
    return asked == 0 and bool(granted.value >> _TILE_DATA & 1)


def usable_cores() -> int:
    """Return how many cores this process may use: its affinity and its container's quota."""
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    quota = _read(Path("/sys/fs/cgroup/cpu.max")).split()
    if len(quota) == 2 and quota[0].isdigit():
        cores = min(cores, max(1, int(quota[0]) // int(quota[1])))
    return cores


def _platform() -> Platform:
    """Return the platform of this machine."""
    system, machine = platform.system(), platform.machine()
    known = [each for each in architectures.PLATFORMS.values() if each.runs_tvm]
    for each in known:
        if (each.system, each.machine) == (system, machine):
            return each
    expected = " or ".join(f"{each.system} on {each.machine}" for each in known)
    raise TargetError(
        f"the target 'host' cannot describe {system} on {machine}: expected {expected}; "
        "tune for a board instead, such as --target rasp4"
    )


def _vector_unit(here: Platform, shown: Collection[str]) -> VectorUnit:
    unit = here.architecture.vector_unit(shown)
    if unit is not None:
        return unit
    least = here.architecture.vector_units[-1].features[0]
    raise TargetError(
        f"cannot tell what this processor can do: /proc/cpuinfo shows no {least.upper()}; "
        "mount /proc, or tune for a board instead, such as --target rasp4"
    )


def _processor(here: Platform, unit: VectorUnit, shown: Collection[str]) -> dict[str, Any]:
    """Return what LLVM is told of the processor."""
    architecture = here.architecture
    extras = (extra for extra in unit.extras if architecture.shows(extra, shown))
    part = architecture.cpu_parts.get(_cpuinfo("CPU part").lower())
    return {
        "mcpu": part or here.mcpu or unit.mcpu,
        "mattr": [*(f"+{name}" for name in (*unit.features, *extras)), *unit.tuning],
    }


def _glibc() -> str:
    libc, version = platform.libc_ver()
    if libc != "glibc":
        raise TargetError(
            "the target 'host' needs a Linux with glibc, which TVM's packages are made for; "
            "this one has another C library (Alpine?): use Debian or Ubuntu, also in a container"
        )
    return version


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
    import psutil  # not on a board that a bundle is only run on

    frequency = psutil.cpu_freq()
    if frequency is None:
        return 2.0
    return round((frequency.max or frequency.current) / 1e3, 1) or 2.0


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
