"""Which instruction sets a library's code really has, found by disassembling it.

The names are those of Linux's ``/proc/cpuinfo``, as in manifests. What every processor of an
architecture has is left out. For x86-64, iced knows which bit of CPUID each instruction needs; for
Arm, capstone disassembles, and the tables here say which mnemonics came with which extension (Arm
Architecture Reference Manual for A-profile, and Linux, Documentation/arch/arm64/elf_hwcaps.rst).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from tvm_eff.errors import SetupError

Code = Iterable[tuple[int, bytes]]
"""Pieces of code, each with its address."""

_NEEDED = "is not installed, which disassembles the library's code; pip install iced-x86 capstone"

# Every x86-64 processor has these, or they are no-ops on those that have not. XGETBV is only
# executed behind the bit of CPUID that says so (runtime/native/processor.c).
_ALWAYS = frozenset(
    (
        *("INTEL8086", "INTEL8086_ONLY", "INTEL186", "INTEL286", "INTEL286_ONLY", "INTEL386"),
        *("INTEL386_ONLY", "INTEL486", "X64", "FPU", "FPU287", "FPU387", "CPUID", "CMOV", "CX8"),
        *("TSC", "MSR", "MMX", "FXSR", "CLFSH", "SSE", "SSE2", "SYSCALL", "MULTIBYTENOP", "PAUSE"),
        *("UDBG", "XSAVE", "CET_IBT", "CET_SS"),
    )
)
# Where Linux has another word than the manual.
_LINUX_WORDS = {
    "SSE3": "pni",
    "LZCNT": "abm",
    "AVX512_VNNI": "avx512_vnni",
    "AVX_VNNI": "avx_vnni",
    "AVX512_BF16": "avx512_bf16",
    "AMX_TILE": "amx_tile",
    "AMX_INT8": "amx_int8",
    "PCLMULQDQ": "pclmulqdq",
    "SHA": "sha_ni",
}

_IMPLIED: Mapping[str, frozenset[str]] = {
    # No processor has the one without the others: x86-64 psABI, levels v2 and v3.
    "avx": frozenset({"pni", "ssse3", "sse4_1", "sse4_2", "popcnt"}),
    "bmi2": frozenset({"bmi1", "abm", "movbe"}),
    # Armv8 without either is no platform of Linux's.
    "vfpv4": frozenset({"idiva", "idivt"}),
}

_HALF = re.compile(r"\.[48]h\b|\bh\d|\.h\[")
_SCALABLE = re.compile(r"\bz\d|\bp\d")
_ORDER = "(a|al|l)?[bh]?"

_AARCH64_MNEMONICS = {
    "asimddp": r"[us]dot",
    "i8mm": r"(us|su|u|s)mmla|usdot|sudot",
    "bf16": r"bfdot|bfmmla|bfmlal[bt]|bfcvtn?2?",
    "asimdrdm": r"sqrdml[as]h",
    "asimdfhm": r"fml[as]l2?",
    "fcma": r"fcmla|fcadd",
    "jscvt": r"fjcvtzs",
    "atomics": (rf"casp?{_ORDER}|swp{_ORDER}|(ld|st)(add|clr|eor|set|smax|smin|umax|umin){_ORDER}"),
    "lrcpc": r"ldapu?r(s?[bhw])?",
    "crc32": r"crc32c?[bhwx]",
    "aes": r"aes(e|d|mc|imc)",
    "sha1": r"sha1\w+",
    "sha2": r"sha256\w+",
    "sha512": r"sha512\w+",
    "sha3": r"eor3|rax1|xar|bcax",
    "sve": r"(cnt|inc|dec)[bhwdp]|rdvl|addvl|addpl|while\w+|ptrue\w*",
}
_AARCH64 = {name: re.compile(pattern) for name, pattern in _AARCH64_MNEMONICS.items()}
_HALF_ARITHMETIC = re.compile(r"f(?!cvt(n|l|xn)?2?$|ml[as]l2?$|jcvtzs$|cmla$|cadd$)\w+|[us]cvtf")


def instruction_sets(architecture: str, code: Code) -> dict[str, int] | None:
    """Return how many instructions of each set there are, beyond those of every processor.

    Parameters
    ----------
    architecture
        ``x86_64``, ``aarch64`` or ``arm``.
    code
        What is executed. In 32-bit Arm's, constants lie among the instructions.

    Returns
    -------
    dict of str to int or None
        By the names of ``/proc/cpuinfo``; None if the architecture is another.

    Raises
    ------
    SetupError
        The disassembler is not installed.
    """
    known = {"x86_64": _x86_64, "aarch64": _aarch64, "arm": _arm}
    return dict(sorted(known[architecture](code).items())) if architecture in known else None


def undeclared(found: Iterable[str], declared: Iterable[str]) -> tuple[str, ...]:
    """Return the sets that code has and whose processors nobody asked for."""
    asked = set(declared)
    implied = asked.union(*(_IMPLIED.get(each, frozenset()) for each in asked))
    return tuple(each for each in found if each not in implied)


def _x86_64(code: Code) -> Counter[str]:
    try:
        import iced_x86
    except ImportError as error:
        raise SetupError(f"iced-x86 {_NEEDED}") from error
    names = {
        value: name for name, value in vars(iced_x86.CpuidFeature).items() if type(value) is int
    }
    features: dict[int, list[str]] = {}
    found: Counter[str] = Counter()
    for address, content in code:
        for each in iced_x86.Decoder(64, content, ip=address):
            if each.code not in features:
                needed = (names[number] for number in each.cpuid_features())
                features[each.code] = [_linux(name) for name in needed if name not in _ALWAYS]
            found.update(features[each.code])
    return found


def _linux(name: str) -> str:
    return _LINUX_WORDS.get(name, name.lower())


def _aarch64(code: Code) -> Counter[str]:
    capstone = _capstone()
    decoder = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_LITTLE_ENDIAN)
    decoder.skipdata = True
    found: Counter[str] = Counter()
    for address, content in code:
        for _, _, mnemonic, operands in decoder.disasm_lite(content, address):
            found.update(_aarch64_sets(mnemonic, operands))
    return found


def _aarch64_sets(mnemonic: str, operands: str) -> Iterable[str]:
    if _SCALABLE.search(operands):
        yield "sve"
        return
    for name, pattern in _AARCH64.items():
        if pattern.fullmatch(mnemonic):
            yield name
    if _HALF_ARITHMETIC.fullmatch(mnemonic) and _HALF.search(operands):
        yield "asimdhp"


def _arm(code: Code) -> Counter[str]:
    capstone = _capstone()
    decoder = capstone.Cs(capstone.CS_ARCH_ARM, capstone.CS_MODE_ARM)
    decoder.detail = decoder.skipdata = True
    groups = {capstone.arm.ARM_GRP_NEON: "neon", capstone.arm.ARM_GRP_VFP4: "vfpv4"}
    found: Counter[str] = Counter()
    for address, content in code:
        for each in decoder.disasm(content, address):
            if each.id != 0:  # what is no instruction
                found.update(groups[group] for group in each.groups if group in groups)
                found.update(["idiva"] if each.mnemonic in ("sdiv", "udiv") else [])
    return found


def _capstone() -> Any:
    try:
        import capstone
    except ImportError as error:
        raise SetupError(f"capstone {_NEEDED}") from error
    return capstone
