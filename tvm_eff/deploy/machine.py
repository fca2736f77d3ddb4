"""Can code that was made for a target run on this machine?"""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_eff.deploy.manifest import MadeFor

if TYPE_CHECKING:
    from tvm_eff.targets import Target

# What a compiler uses by itself in a network, as LLVM and as Linux's /proc/cpuinfo call it.
_AVX512 = ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
_FEATURES = {
    "x86_64": {
        **{name: name for name in ("avx", "avx2", "fma", "f16c", "bmi2", *_AVX512)},
        "avx512vnni": "avx512_vnni",
        "avx512bf16": "avx512_bf16",
    },
    "aarch64": {
        "neon": "asimd",
        "dotprod": "asimddp",
        "fullfp16": "asimdhp",
        "rdm": "asimdrdm",
        "lse": "atomics",
        "i8mm": "i8mm",
        "bf16": "bf16",
        "sve": "sve",
        "sve2": "sve2",
    },
    "arm": {"neon": "neon", "vfp4": "vfpv4"},
}
_FAMILIES = {"arm64": "aarch64", "AMD64": "x86_64"}


def needed_features(target: Target) -> tuple[str, ...]:
    """Return the processor features that code for `target` may use, as Linux calls them."""
    from tvm.target import codegen

    arch = target.toolchain.triple.partition("-")[0]
    made = target.tvm_target()
    processor = made if target.gpu is None else made.host
    enabled = {str(name) for name in codegen.llvm_get_cpu_features(processor)}
    return tuple(linux for llvm, linux in _FEATURES[arch].items() if llvm in enabled)


def incompatibility(target: MadeFor) -> str | None:
    """Return why code for `target` cannot run on this machine, or None if it can."""
    if target.arch != _arch() or _system(target.triple) != platform.system():
        return f"this machine is {platform.system()} on {_arch()}"
    present = _features()
    missing = [name for name in target.cpu_features if name not in present]
    if present and missing:
        return f"this machine's processor lacks {', '.join(missing)}"
    return None


def _arch() -> str:
    machine = platform.machine()
    # A 32-bit Python runs on a 64-bit kernel too.
    if machine.startswith("armv") or (machine == "aarch64" and sys.maxsize < 2**32):
        return "arm"
    return _FAMILIES.get(machine, machine)


def _system(triple: str) -> str:
    return "Darwin" if "macos" in triple else "Linux"


def _features() -> frozenset[str]:
    """Return what Linux says of the first processor; nothing where that is not known."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return frozenset()
    key = "flags" if _arch() == "x86_64" else "Features"
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == key:
            return frozenset(value.split())
    return frozenset()
