"""Writes operators.md: what becomes of each operator that PyTorch tags as core.

    python docs/list_operators.py

Each has a call or more in tests/core_operators.py, which goes the way of a network: torch.export,
its decomposition, the import, and the proof of it on several inputs. A test holds the page to this
script.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import tvm
from torch import nn

from tvm_eff import frontend
from tvm_eff.deploy.proof import prove
from tvm_eff.errors import ModelError
from tvm_eff.frontend.operators import CONVERTERS
from tvm_eff.models import Network, trace
from tvm_eff.tensors import varied_inputs

HERE = Path(__file__).resolve().parent
PAGE = HERE / "operators.md"
sys.path.insert(0, str(HERE.parent / "tests"))

from core_operators import (  # noqa: E402
    NOT_CALLED,
    Sample,
    Sampled,
    core_operators,
    samples,
)

_INTRODUCTION = """\
# Core operators

torch.export and its decomposition write a network in the operators that PyTorch tags as core, as
far as they can: {number} of version {torch}. {supported} are supported, {decomposed} more as other
operators that they become, {refused} are refused, each by a message that names it with its module
and line, and {rest} no network asks for as such.

What is called supported was called as `tests/core_operators.py` says, imported, and every result
compared with PyTorch's on noise, values from 0 to 1 and from 0 to 255, and ones. A converter of
ours is where the importer of TVM {tvm} lacks the operator, leaves out an argument, or mixes dtypes.
`docs/list_operators.py` writes this page.

| operator | | converter |
|---|---|---|
"""


@dataclass(frozen=True)
class Outcome:
    """What became of a call.

    Attributes
    ----------
    operator
        Its name.
    operators
        Those that it was imported as.
    refused
        Why it was not; empty if it was.
    """

    operator: str
    operators: tuple[str, ...] = ()
    refused: str = ""


class _Together(nn.Module):
    """Several samples as one network."""

    def __init__(self, chosen: Sequence[Sample]) -> None:
        super().__init__()
        self.samples = nn.ModuleList(Sampled(each) for each in chosen)

    def forward(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        left = list(tensors)
        results: list[torch.Tensor] = []
        for module in self.samples:
            own = [left.pop(0) for _ in module.sample.inputs]  # type: ignore[union-attr]
            result = module(*own)
            results += [result] if isinstance(result, torch.Tensor) else result
        return results


def outcomes(chosen: Sequence[Sample], alone: Collection[str]) -> Iterator[Outcome]:
    """Yield what becomes of samples.

    Parameters
    ----------
    chosen
        The samples.
    alone
        Names of operators that are tried one by one, as they are likely to be refused; all others
        are one network.
    """
    together = [each for each in chosen if each.operator not in alone]
    for sample in chosen:
        if sample.operator in alone:
            yield from _tried([sample])
    yield from _tried(together)


def _tried(chosen: Sequence[Sample]) -> Iterator[Outcome]:
    """Try samples together, and in halves if one is refused."""
    try:
        yield from _proved(chosen)
    except ModelError as error:
        if len(chosen) == 1:
            yield Outcome(chosen[0].operator, refused=_reason(str(error)))
            return
        middle = len(chosen) // 2
        yield from _tried(chosen[:middle])
        yield from _tried(chosen[middle:])


def _proved(chosen: Sequence[Sample]) -> list[Outcome]:
    if not chosen:
        return []
    inputs = tuple(spec for each in chosen for spec in each.inputs)
    program = trace(Network("samples", _Together(chosen).eval(), inputs))
    core = frontend.decompose(program)
    frontend.import_program(program, core)
    prove(program, core, varied_inputs(inputs))
    found: list[set[str]] = [set() for _ in chosen]
    for node in core.graph.nodes:
        place = re.search(r"samples\.(\d+)", str(node.meta.get("nn_module_stack")))
        if node.op == "call_function" and place is not None and node.target.__name__ != "getitem":
            found[int(place[1])].add(node.target.__name__)
    return [
        Outcome(sample.operator, tuple(sorted(names)))
        for sample, names in zip(chosen, found, strict=True)
    ]


def _reason(message: str) -> str:
    """What a message says beside the place, which is the sample's."""
    text = re.sub(r" \(\S+core_operators\.py:\d+(, in \w+)?\)", "", message)
    text = re.sub(r" in module 'samples\.\d+'", "", text)
    text = re.sub(r"^the model cannot be [\w ]+: (in )?", "", text)
    return text.replace("\n", " ")


def page(found: Sequence[Outcome]) -> str:
    """Return the page."""
    lines, kinds = [], []
    for name in core_operators():
        kind, words, converter = _row(name, [each for each in found if each.operator == name])
        kinds.append(kind)
        lines.append(f"| `{name}` | {words} | {converter} |")
    head = _INTRODUCTION.format(
        number=len(lines),
        torch=torch.__version__.partition("+")[0],
        tvm=tvm.__version__,
        supported=kinds.count("supported"),
        decomposed=kinds.count("decomposed"),
        refused=kinds.count("refused"),
        rest=kinds.count("not called"),
    )
    return head + "\n".join(lines) + "\n"


def _row(name: str, found: Sequence[Outcome]) -> tuple[str, str, str]:
    if name in NOT_CALLED:
        return "not called", f"not called: it {NOT_CALLED[name]}", ""
    refused = list(dict.fromkeys(each.refused for each in found if each.refused))
    reasons = "; ".join(refused)
    taken = [each for each in found if not each.refused]
    if not taken:
        return "refused", f"refused: {reasons}", ""
    also = f"; refused in one call: {reasons}" if refused else ""
    if not any(name in each.operators for each in taken):
        others = sorted({f"`{other}`" for each in taken for other in each.operators})
        return "decomposed", f"supported as {', '.join(others)}{also}", ""
    return "supported", f"supported{also}", "ours" if name in CONVERTERS else "TVM's"


def listed_as_refused() -> set[str]:
    """Return the operators that the page as it is calls refused."""
    if not PAGE.exists():
        return set()
    text = PAGE.read_text(encoding="utf-8")
    return set(re.findall(r"^\| `(\S+)` \|[^|]*refused", text, re.MULTILINE))


if __name__ == "__main__":
    PAGE.write_text(page(list(outcomes(samples(), listed_as_refused()))), encoding="utf-8")
    print(PAGE)
