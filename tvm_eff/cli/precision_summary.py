"""What the terminal shows of a network that was quantized."""

from __future__ import annotations

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
    for heading in ("SQNR if alone", "in float32", "as chosen"):
        table.add_column(heading, justify="right", no_wrap=True, min_width=len(heading))
    for each in found.choice.layers:
        table.add_row(
            each.layer,
            each.precision,
            f"{each.sqnr_db:.1f} dB",
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
    lines = [f"int8         {'; '.join(words)}", *_choice(found.choice)]
    if found.warning is not None:
        lines.append(f"WARNING      {found.warning}")
    count = len(found.in_float32)
    if count:
        more = f" and {count - _LISTED} more" if count > _LISTED else ""
        lines.append(f"in float32   {'; '.join(found.in_float32[:_LISTED])}{more}")
    return lines


def _choice(found: PrecisionChoice | None) -> list[str]:
    if found is None:
        return []
    count = sum(each.precision == "int8" for each in found.layers)
    return [
        f"precision    {count} of {len(found.layers)} layers in int8: cost "
        f"{_millions(found.cost_before)} before, {_millions(found.cost_after)} after, in million "
        "multiply-adds of float32",
        f"lost         {found.criterion}: {found.before:.4g} in float32, {found.after:.4g} now, "
        f"of {found.samples} samples; {found.max_drop:.2%} may be lost",
    ]


def _millions(cost: float) -> str:
    return f"{cost / 1e6:.2f}"
