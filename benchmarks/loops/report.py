"""The hot loops of a library's kernels, as rows of the JSON file and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from results_file import Result

from loops.aarch64 import Loop, hot_loops
from loops.kernels import Kernel
from loops.layers import LayerLoop
from loops.mca import Cycles, analyze

DENSITY = 1.35
"""The most instructions a vector multiply-add that are wanted of an innermost loop."""

MODELS = (
    "LLVM has Cortex-A57's model serve the A72; the Neoverse N1's stands for the A76, whose core "
    "it is"
)

Row = dict[str, Any]
"""A kernel as the JSON file has it; its first loop has the most multiply-adds."""


def row_of(kernel: Kernel, triple: str, cpu: str) -> Row:
    """Return what its innermost loops are made of and what they take."""
    row: Row = {"kernel": kernel.label, "calls": kernel.calls, "instructions": kernel.cost}
    if kernel.assembly is None:
        return {**row, "failure": "no record", "loops": []}
    loops = hot_loops(kernel.assembly)
    return {**row, "loops": [_figures(loop, analyze(loop.body, triple, cpu)) for loop in loops]}


def _figures(loop: Loop, cycles: Cycles) -> dict[str, Any]:
    found = {
        "label": loop.label,
        "instructions": len(loop.body),
        "fmas": loop.fmas,
        "instructions_per_fma": round(loop.instructions_per_fma, 3),
        "loads": loop.loads,
        "stores": loop.stores,
        "spills": loop.spills,
        "cycles": cycles.iteration,
        "products": loop.products,
        "cycles_per_fma": round(cycles.iteration / loop.fmas, 3),
        "cycles_per_product": round(cycles.iteration / loop.products, 4),
        "busiest_unit_cycles": cycles.busy,
        "dispatch_cycles": cycles.dispatch,
        "bound": cycles.bound,
    }
    misses = loop.spills > 0 or loop.instructions_per_fma > DENSITY
    return {**found, "assembly": list(loop.body)} if misses else found


def layer_row_of(found: LayerLoop) -> Row:
    """Return a layer's innermost loop as the JSON file has it."""
    about = {"layer": found.layer, "target": found.target, "cpu": found.cpu, "dtype": found.dtype}
    figures = _figures(found.loop, found.cycles)
    return {**about, "candidate": found.candidate, **figures}


def layers_markdown(result: Result) -> str:
    """Return the rows of layers as a table, a column for each processor and dtype."""
    rows: list[Row] = result.data["layers"]
    cycles = {(row["layer"], row["cpu"], row["dtype"]): row["cycles_per_product"] for row in rows}
    columns = list(dict.fromkeys((row["cpu"], row["dtype"]) for row in rows))
    lines = [
        "# Hot loops of layers",
        "",
        result.provenance,
        "",
        f"Cycles a multiply-add by {result.data['mca']}; {MODELS}, loads hitting the first cache. "
        "Of each layer the innermost loop with the most multiply-adds, of the first candidates "
        "that compute them all the one with the fewest cycles.",
        "",
        "| layer | " + " | ".join(f"{cpu}, {dtype}" for cpu, dtype in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for layer in dict.fromkeys(row["layer"] for row in rows):
        cells = [f"{cycles[layer, cpu, dtype]:.3f}" for cpu, dtype in columns]
        lines.append("| " + " | ".join([layer, *cells]) + " |")
    return "\n".join(lines) + "\n"


def markdown(result: Result) -> str:
    """Return the rows that have multiply-adds as a page of Markdown, and which miss the goal."""
    data = result.data
    rows = [row for row in data["rows"] if row["loops"]]
    lines = [
        f"# Hot loops of {data['model']} for {data['target']}",
        "",
        result.provenance,
        "",
        f"Innermost loops with vector multiply-adds; cycles by {data['mca']}, "
        f"for {data['cpu']} ({MODELS}), loads hitting the first cache. Of each kernel the loop "
        "with the most multiply-adds; smaller tiles, at "
        "borders, have loops of their own, and where a tile is unrolled as a whole, its loop has "
        "the stores of its outputs. An FMA of bytes is an instruction that multiplies or sums "
        "products; a product is one multiply-add of two numbers. Minstr. are million executed "
        "instructions of all calls, when the schedule was recorded.",
        "",
        "| kernel | calls | Minstr. | FMAs | instructions an FMA | spills | stores "
        "| cycles an iteration | cycles an FMA | cycles a product | bound by "
        "| smaller tiles' instructions an FMA |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
        *(_line(row) for row in rows),
        "",
        *_verdict(rows),
    ]
    unknown = [row["kernel"] for row in data["rows"] if "failure" in row]
    if unknown:
        lines += ["", f"No record, so not looked at: {'; '.join(unknown)}."]
    return "\n".join(lines) + "\n"


def _line(row: Row) -> str:
    first, *others = row["loops"]
    cells = [
        row["kernel"],
        row["calls"],
        f"{row['calls'] * row['instructions'] / 1e6:.1f}",
        first["fmas"],
        f"{first['instructions_per_fma']:.2f}",
        first["spills"],
        first["stores"],
        f"{first['cycles']:.1f}",
        f"{first['cycles_per_fma']:.2f}",
        f"{first['cycles_per_product']:.3f}",
        first["bound"],
        ", ".join(dict.fromkeys(map(_small, others))) or "-",
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


def _small(loop: dict[str, Any]) -> str:
    spills = f", {loop['spills']} spills" if loop["spills"] else ""
    return f"{loop['instructions_per_fma']:.2f}{spills}"


def _verdict(rows: Sequence[Row]) -> list[str]:
    first = [(row["kernel"], row["loops"][0]) for row in rows]
    dense = [name for name, loop in first if loop["instructions_per_fma"] > DENSITY]
    spilled = [name for name, loop in first if loop["spills"]]
    return [
        f"Above {DENSITY} instructions an FMA: {'; '.join(dense) or 'none'}.",
        "",
        f"With spills: {'; '.join(spilled) or 'none'}.",
    ]
