"""The loops of a library for x86, from its disassembly."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tvm_eff.errors import SetupError

_INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\s+(.+?)\s*$")
_JUMP = re.compile(r"^j\w+\s+([0-9a-f]+)\b")
_FMA = re.compile(r"^vfn?m(?:add|sub)\d+ps ")
_TEXT = re.compile(r"^\s*\d+ \.text\s+\w+\s+(\w+)\s+\w+\s+(\w+)")


@dataclass(frozen=True)
class Loop:
    """A loop without those in it, or what is in none.

    Attributes
    ----------
    body
        Its own instructions, in order; none for what is in no loop.
    within
        The instructions of the innermost loops in it.
    samples
        How often the processor was there.
    """

    body: tuple[str, ...]
    within: tuple[tuple[str, ...], ...]
    samples: int

    @property
    def fmas(self) -> int:
        """Vector multiply-adds in it."""
        return multiply_adds(self.body)

    @property
    def loads(self) -> int:
        """Instructions with an operand in memory that is not written."""
        return sum("(" in line and not line.endswith(")") for line in self.body)


def multiply_adds(body: Sequence[str]) -> int:
    """Return how many instructions are vector multiply-adds."""
    return sum(bool(_FMA.match(line)) for line in body)


def loops(library: Path, offsets: Mapping[int, int]) -> list[Loop]:
    """Lay samples, by their offset in the file, on the loops around them; the most first.

    Raises
    ------
    SetupError
        objdump is not installed.
    """
    if shutil.which("objdump") is None:
        raise SetupError("objdump is not installed; install binutils")
    moved = _moved(library)
    code = instructions(_objdump("-d", "--no-show-raw-insn", str(library)))
    return lay(code, {offset + moved: samples for offset, samples in offsets.items()})


def instructions(disassembly: str) -> dict[int, str]:
    """Return the instructions of what objdump prints, by their address."""
    matches = (_INSTRUCTION.match(line) for line in disassembly.splitlines())
    return {int(match[1], 16): " ".join(match[2].split()) for match in matches if match}


def lay(code: Mapping[int, str], samples: Mapping[int, int]) -> list[Loop]:
    """Lay samples, by their address, on the loops around them; the most first."""
    intervals = sorted(_intervals(code), key=lambda each: each[1] - each[0])
    found: Counter[tuple[int, int] | None] = Counter()
    for address, number in samples.items():
        found[next((i for i in intervals if i[0] <= address <= i[1]), None)] += number
    return [_loop(code, intervals, each, number) for each, number in found.most_common()]


def _intervals(code: Mapping[int, str]) -> set[tuple[int, int]]:
    """Where loops begin and end: a jump back ends one."""
    jumps = ((address, _JUMP.match(text)) for address, text in code.items())
    return {
        (int(jump[1], 16), address)
        for address, jump in jumps
        if jump and int(jump[1], 16) <= address
    }


def _loop(
    code: Mapping[int, str],
    intervals: Sequence[tuple[int, int]],
    interval: tuple[int, int] | None,
    samples: int,
) -> Loop:
    if interval is None:
        return Loop((), (), samples)
    begin, end = interval
    nested = [each for each in intervals if begin <= each[0] and each[1] <= end != each[1]]
    innermost = [
        each
        for each in nested
        if not any(other != each and _contains(each, other) for other in nested)
    ]
    own = [
        address
        for address in code
        if begin <= address <= end and not any(b <= address <= e for b, e in nested)
    ]
    return Loop(
        tuple(code[address] for address in own),
        tuple(tuple(code[a] for a in code if b <= a <= e) for b, e in innermost),
        samples,
    )


def _contains(outer: tuple[int, int], inner: tuple[int, int]) -> bool:
    return outer[0] <= inner[0] and inner[1] <= outer[1]


def _moved(library: Path) -> int:
    """By how much an address of the code is above its offset in the file."""
    for line in _objdump("-h", str(library)).splitlines():
        if match := _TEXT.match(line):
            return int(match[1], 16) - int(match[2], 16)
    raise SetupError(f"objdump finds no code in {library}")


def _objdump(*arguments: str) -> str:
    return subprocess.run(
        ["objdump", *arguments], capture_output=True, text=True, check=True
    ).stdout
