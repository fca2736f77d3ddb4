"""The checksum at the end of a native library: see ``runtime/native/tvm_eff_open.h``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

MARK = b"tvm_eff1"
_FACTOR = 0x9E3779B97F4A7C15
_BLOCK = 1 << 16
_MODULUS = 1 << 64


def append(library: Path) -> None:
    """Write the mark and the checksum behind a library's content."""
    content = library.read_bytes()
    with library.open("ab") as file:
        file.write(MARK + checksum(content).to_bytes(8, "little"))


def checksum(content: bytes) -> int:
    """Return a polynomial in an odd number modulo 2^64, whose coefficients are 64-bit words."""
    words = np.frombuffer(content + bytes(-len(content) % 32), "<u8")
    rising = np.cumprod(np.full(_BLOCK - 1, _FACTOR, "u8"), dtype="u8")
    powers = np.append(rising[::-1], np.uint64(1))
    total = 0
    for start in range(0, len(words), _BLOCK):
        block = words[start : start + _BLOCK]
        shift = pow(_FACTOR, len(block), _MODULUS)
        part = int((block * powers[_BLOCK - len(block) :]).sum(dtype="u8"))
        total = (total * shift + part) % _MODULUS
    return total
