"""The innermost loops in 64-bit Arm assembly as LLVM writes it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_LABEL = re.compile(r"^([.\w$]+):")
_BRANCH = re.compile(r"^(?:b(?:\.\w+)?|cbn?z|tbn?z) .*?([.\w$]+)$")
_FMA = re.compile(r"^(fml[as]|[su]dot|[su]ml[as]l2?|[su]mull2?|[su]adalp) v\d+\.(\w+)")
_ADDRESS = re.compile(r"\[(\w+)(?:, ([xw]\d+))?")
_STEPS = re.compile(r"\[(\w+)[^\]]*\](?:!|, )")
_DERIVES = re.compile(r"^(?:add|sub|mov) (x\d+), (sp|x\d+)\b")
_WRITES = re.compile(r"^\w+ (x\d+)\b(?:, (x\d+)\b(?=, \[))?")
_FUNCTION = re.compile(r"^\s*\.type\s+([.\w$]+),\s*[@%]function")
_STORE = re.compile(r"^st\w* ")
_LOAD = re.compile(r"^ld\w* ")


@dataclass(frozen=True)
class Loop:
    """An innermost loop.

    Attributes
    ----------
    label
        Where it begins.
    body
        Its instructions, operands behind one space, in order.
    fmas
        Vector multiply-adds in it: products, and what sums products of bytes.
    products
        Numbers that they multiply.
    loads
        Loads; one of several registers counts once.
    stores
        Stores, likewise.
    spills
        Loads from and stores to the stack, at the same place in every iteration: what moves
        goes through an array there.
    """

    label: str
    body: tuple[str, ...]
    fmas: int
    products: int
    loads: int
    stores: int
    spills: int

    @property
    def instructions_per_fma(self) -> float:
        """How many instructions it takes for each multiply-add, that included."""
        return len(self.body) / self.fmas if self.fmas else float("inf")


def hot_loops(assembly: str) -> list[Loop]:
    """Return the innermost loops with vector multiply-adds, the one with the most first."""
    found = [
        _loop(lines, begin, end)
        for lines in _functions(assembly)
        for begin, end in _innermost(lines)
    ]
    return sorted((loop for loop in found if loop.products), key=lambda loop: -loop.products)


def _functions(assembly: str) -> list[list[str]]:
    """Return the labels and instructions of each function, without comments and directives."""
    functions: list[list[str]] = [[]]
    for text in assembly.splitlines():
        line = " ".join(text.split("//")[0].split())
        if _FUNCTION.match(line):
            functions.append([])
        elif line and (_LABEL.match(line) or not line.startswith(".")):
            functions[-1].append(line)
    return functions


def _innermost(lines: Sequence[str]) -> list[tuple[int, int]]:
    """Return where loops begin and end that have no other within: a branch back ends one."""
    labels = {match[1]: i for i, line in enumerate(lines) if (match := _LABEL.match(line))}
    ends: dict[int, int] = {}
    for i, line in enumerate(lines):
        branch = _BRANCH.match(line)
        begin = labels.get(branch[1], len(lines)) if branch else len(lines)
        if begin <= i:
            ends[begin] = i
    return [
        (begin, end)
        for begin, end in ends.items()
        if not any(begin < other <= end for other in ends)
    ]


def _loop(lines: Sequence[str], begin: int, end: int) -> Loop:
    body = [line for line in lines[begin : end + 1] if not _LABEL.match(line)]
    stack = _stack_registers(lines[: end + 1])
    fmas = [match for line in body if (match := _FMA.match(line))]
    accesses = [line for line in body if _LOAD.match(line) or _STORE.match(line)]
    moving = _changing_registers(body)
    addresses = [match.groups() for line in accesses if (match := _ADDRESS.search(line))]
    return Loop(
        label=(_LABEL.match(lines[begin]) or ["", ""])[1],
        body=tuple(body),
        fmas=len(fmas),
        products=sum(_products(match[1], match[2]) for match in fmas),
        loads=sum(bool(_LOAD.match(line)) for line in body),
        stores=sum(bool(_STORE.match(line)) for line in body),
        spills=sum(base in stack and not moving & {base, index} for base, index in addresses),
    )


def _products(mnemonic: str, arrangement: str) -> int:
    """Return how many numbers an instruction multiplies, by its result: such as ``4s``."""
    if mnemonic[1:] == "adalp":
        return 0
    lanes = int(arrangement[:-1])
    return 4 * lanes if mnemonic[1:] == "dot" else lanes


def _changing_registers(body: Sequence[str]) -> set[str]:
    """Return the registers of addresses that a loop's instructions change."""
    written = {match[1] for line in body if (match := _DERIVES.match(line))}
    stepped = {match[1] for line in body if (match := _STEPS.search(line))}
    return written | stepped


def _stack_registers(lines: Sequence[str]) -> set[str]:
    """Return the registers that hold an address on the stack behind these lines."""
    held = {"sp"}
    for line in lines:
        derived, written = _DERIVES.match(line), _WRITES.match(line)
        if derived and derived[2] in held:
            held.add(derived[1])
        elif written and not _STORE.match(line):
            held -= {written[1], written[2]}
    return held
