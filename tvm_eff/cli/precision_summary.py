"""What the terminal shows of a network that was quantized."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.box import SIMPLE
from rich.table import Table

from tvm_eff.deploy.manifest import PrecisionChoice, QuantizationInfo

_LISTED = 8


def precision_table(found: QuantizationInfo | None) -> Table | None:
    """Return each layer's precision and cost; None where nothing was chosen."""
    if found is None or found.choice is None:
        return None
    table = Table(
        title="the precision of each layer; its cost in million multiply-adds of float32",
        box=SIMPLE,
    )
    table.add_column("layer", no_wrap=True, overflow="ellipsis")
    table.add_column("precision", no_wrap=True)
    with_half = any(each.sqnr_float16_db is not None for each in found.choice.layers)
    alone = ["dB in int8", "in float16"] if with_half else ["SQNR if alone"]
    for heading in (*alone, "in float32", "as chosen"):
        table.add_column(heading, justify="right", no_wrap=True, min_width=len(heading))
    for each in found.choice.layers:
        half = "" if each.sqnr_float16_db is None else f"{each.sqnr_float16_db:.1f}"
        table.add_row(
            each.layer,
            each.precision,
            *([f"{each.sqnr_db:.1f}", half] if with_half else [f"{each.sqnr_db:.1f} dB"]),
            _millions(each.cost_before),
            _millions(each.cost_after),
        )
    return table


def quantization_lines(found: QuantizationInfo | None) -> list[str]:
    """Say what was quantized, on what data, and what that cost."""
    if found is None:
        return []
    source = "random inputs" if found.source is None else f"{found.source}, {found.samples} samples"
    words = [f"calibrated on {source}: {found.sqnr_db:.1f} dB of signal to quantization noise"]
    if found.same_class is not None:
        words.append(f"float32's class for {found.same_class:.1%}")
    lines = [f"{_kind(found.choice):<13}{'; '.join(words)}", *_choice(found.choice)]
    if found.warning is not None:
        lines.append(f"WARNING      {found.warning}")
    if found.in_float32:
        lines.append(f"in float32   {_first(found.in_float32)}")
    return lines


def _choice(found: PrecisionChoice | None) -> list[str]:
    if found is None:
        return []
    refused = [f"{each.layer}: {each.not_float16}" for each in found.layers if each.not_float16]
    return [
        f"precision    {_counts(found)}: cost "
        f"{_millions(found.cost_before)} before, {_millions(found.cost_after)} after, in million "
        "multiply-adds of float32",
        f"lost         {found.criterion}: {found.before:.4g} in float32, {found.after:.4g} now, "
        f"of {found.samples} samples; {found.max_drop:.2%} may be lost",
        *([f"not float16  {_first(refused)}"] if refused else []),
    ]


def _kind(found: PrecisionChoice | None) -> str:
    """What heads the line on the data: the precision that costs the most accuracy."""
    taken = set() if found is None else {each.precision for each in found.layers}
    return "float16" if "float16" in taken and "int8" not in taken else "int8"


def _counts(found: PrecisionChoice) -> str:
    """How many layers are in which precision; those of float32 are the others."""
    counts = Counter(each.precision for each in found.layers)
    words = f"{counts['int8']} of {len(found.layers)} layers in int8"
    return f"{words}, {counts['float16']} in float16" if counts["float16"] else words


def _first(listed: Sequence[str]) -> str:
    more = f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
    return f"{'; '.join(listed[:_LISTED])}{more}"


def _millions(cost: float) -> str:
    return f"{cost / 1e6:.2f}"
