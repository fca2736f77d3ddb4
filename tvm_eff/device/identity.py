"""Which machine a value in seconds belongs to, described so that two machines can be told apart.

A processor's marketing name is not enough: "Intel(R) Xeon(R) Processor" is what any cloud's
Xeon says. What Linux tells of the processor, its caches and its cores is, and the number of
threads that kernels run with.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from tvm_eff.targets import architectures

ReadText = Callable[[str], str]
"""Returns what a file of the machine holds; empty if there is none."""

_CPU = "/sys/devices/system/cpu"
_CACHE_INDICES = range(5)
# Fields of the Main ID Register, "MIDR_EL1" in Arm's Architecture Reference Manual.
_MIDR_FIELDS = {"vendor": (24, 8), "family": (20, 4), "model": (4, 12), "stepping": (0, 4)}


@dataclass(frozen=True)
class MachineIdentity:
    """A machine, as far as its values depend on it. What is not known is empty, or 0.

    Attributes
    ----------
    system
        Operating system and architecture, such as ``Linux x86_64``; an emulator's name.
    name
        The processor's name, or the board's.
    vendor, family, model, stepping
        The processor, in the numbers of CPUID or of Arm's Main ID Register.
    features
        Its features as Linux calls them, sorted and separated by spaces.
    caches
        The first core's caches, such as ``L1d 32K, L2 1024K``.
    cores
        Processors that are online.
    threads
        How many threads kernels run with.
    gpu
        The OpenCL device and its driver's version, if kernels run on one.
    """

    system: str
    name: str = ""
    vendor: str = ""
    family: str = ""
    model: str = ""
    stepping: str = ""
    features: str = ""
    caches: str = ""
    cores: int = 0
    threads: int = 0
    gpu: str = ""

    @property
    def digest(self) -> str:
        """A short name: the same for equal identities, another for any other."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def words(self) -> str:
        """One line for people."""
        processor = self.gpu or self.name or self.system
        threads = f"{self.threads} thread{'' if self.threads == 1 else 's'}"
        numbers = "/".join(each for each in (self.family, self.model, self.stepping) if each)
        inside = ", ".join(each for each in (numbers, threads if self.threads else "") if each)
        return f"{processor} ({inside})" if inside else processor

    def differences(self, other: MachineIdentity) -> tuple[str, ...]:
        """Return the names of the fields in which two identities differ."""
        return tuple(
            each.name
            for each in fields(self)
            if getattr(self, each.name) != getattr(other, each.name)
        )


def local_identity(threads: int) -> MachineIdentity:
    """Return the identity of this machine, for kernels that run with `threads` threads."""
    return identity_of(read_local, f"{platform.system()} {platform.machine()}", threads)


def identity_of(read: ReadText, system: str, threads: int = 0) -> MachineIdentity:
    """Return the identity of the machine whose files `read` reads."""
    cpuinfo = _cpuinfo(read("/proc/cpuinfo"))
    numbers = {
        "vendor": _first(cpuinfo, "vendor_id", "CPU implementer"),
        "family": _first(cpuinfo, "cpu family", "CPU architecture"),
        "model": _first(cpuinfo, "model", "CPU part"),
        "stepping": _first(cpuinfo, "stepping", "CPU revision"),
    }
    if not any(numbers.values()):
        numbers = _midr(read(f"{_CPU}/cpu0/regs/identification/midr_el1"))
    board = read("/sys/firmware/devicetree/base/model").strip("\0\n ")
    shown = _first(cpuinfo, "flags", "Features").split()
    features = shown or architectures.features_of_modalias(read(f"{_CPU}/modalias"))
    return MachineIdentity(
        system=system,
        name=_first(cpuinfo, "model name") or board or platform_name(system),
        **numbers,
        features=" ".join(sorted(features)),
        caches=", ".join(_caches(read)),
        cores=_count(read(f"{_CPU}/online")),
        threads=threads,
    )


def platform_name(system: str) -> str:
    """Return what there is to call a machine that tells no name: this one's, or nothing."""
    here = f"{platform.system()} {platform.machine()}"
    return (platform.processor() or platform.machine()) if system == here else ""


def read_local(path: str) -> str:
    """Return what a file of this machine holds; empty if it cannot be read."""
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""


def _cpuinfo(text: str) -> dict[str, str]:
    """The fields of the first processor."""
    first = text.strip().partition("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _first(found: dict[str, str], *keys: str) -> str:
    return next((found[key] for key in keys if found.get(key)), "")


def _midr(text: str) -> dict[str, str]:
    match = re.fullmatch(r"0x[0-9a-fA-F]+", text.strip("\0\n "))
    if match is None:
        return dict.fromkeys(_MIDR_FIELDS, "")
    register = int(match.group(), 16)
    return {
        name: hex(register >> low & (1 << bits) - 1) for name, (low, bits) in _MIDR_FIELDS.items()
    }


def _caches(read: ReadText) -> Iterable[str]:
    for index in _CACHE_INDICES:
        folder = f"{_CPU}/cpu0/cache/index{index}"
        level, size = read(f"{folder}/level").strip("\0\n "), read(f"{folder}/size").strip("\0\n ")
        kind = read(f"{folder}/type").strip("\0\n ")
        if level and size:
            letter = {"Data": "d", "Instruction": "i"}.get(kind, "")
            yield f"L{level}{letter} {size}"


def _count(ranges: str) -> int:
    """Count the processors of ``0-3,8``."""
    count = 0
    for part in ranges.strip("\0\n ").split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            count += int(last or first) - int(first) + 1
    return count
