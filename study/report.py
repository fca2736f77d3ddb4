"""A study for people: a table for the terminal, a page in Markdown; and its files."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from study.result import Comparison, LayerCost, Study
from tvm_eff.errors import UsageError

FILES = ("study.json", "study.md", "study.png")


def require_writable(folder: Path) -> None:
    """Find out before a study that its results can be written.

    Raises
    ------
    UsageError
        They cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        for path in _paths(folder):
            if path.exists():
                path.open("r+b").close()
    except OSError as error:
        at = error.filename or folder
        raise UsageError(
            f"cannot write to the output folder {folder}: {error.strerror} ({at}); "
            "name another with --output FOLDER"
        ) from error


def write(study: Study, folder: Path) -> list[Path]:
    """Write ``study.json``, ``study.md`` and ``study.png``, and return their paths."""
    # Late: a study that fails need not wait for matplotlib.
    from study.plot import plot

    data, page, picture = _paths(folder)
    data.write_text(json.dumps(study.as_dict(), indent=2) + "\n")
    plot(study).savefig(picture)
    page.write_text(markdown(study))
    return [data, page, picture]


def _paths(folder: Path) -> list[Path]:
    return [folder / name for name in FILES]


def measured_name(study: Study) -> str:
    """What the measured ratio is: instructions never make a speed-up."""
    return "speed-up" if study.in_seconds else "instruction ratio"


def worse_name(study: Study) -> str:
    """What a layer is whose measured ratio is below 1."""
    return "slower" if study.in_seconds else "more instructions"


def by_layer(study: Study) -> dict[str, list[Comparison]]:
    """Return the comparisons of each kind of layer, in the order the kinds were met."""
    found: dict[str, list[Comparison]] = {}
    for each in study.comparisons:
        found.setdefault(each.layer, []).append(each)
    return found


def table(study: Study) -> Table:
    """Return the table for the terminal."""
    shown = Table(title=_title(study), box=SIMPLE, title_justify="left")
    shown.add_column("layer", no_wrap=True)
    shown.add_column("shape", no_wrap=True)
    for heading in _headings(study):
        longest = max(map(len, heading.split()))
        shown.add_column(heading, justify="right", min_width=longest)
    shown.add_column("most of it in", no_wrap=True, overflow="ellipsis")
    layer = None
    for pair, cells in _rows(study):
        if layer not in (None, pair.layer):
            shown.add_section()
        layer = pair.layer
        shown.add_row(*cells[:-2], Text(cells[-2], _style(pair)), cells[-1])
    return shown


def summary(study: Study) -> Table:
    """Return one line for each kind of layer."""
    shown = Table(title="in all shapes, median and range", box=SIMPLE, title_justify="left")
    shown.add_column("layer", no_wrap=True)
    for heading in _summary_headings(study):
        shown.add_column(heading, justify="right", no_wrap=True)
    for cells in _summary(study):
        shown.add_row(*cells)
    return shown


def legend(study: Study) -> list[str]:
    """Return what a reader must know of the figures."""
    lines = [
        "MACs: how many times fewer multiply-accumulates the factorized layer has, counted; "
        "formula: what the paper says, = where both are the same.",
        f"std, fact: an inference of the standard and of the factorized layer; "
        f"{measured_name(study)}: what the standard layer costs over what the factorized one "
        "costs, libraries from end to end; delivered: that over MACs.",
    ]
    if study.in_seconds:
        lines.append(
            "±: half the distance of the 10th from the 90th percentile of "
            f"the ratios of {len(study.comparisons[0].rounds)} round(s), in which both libraries "
            "took turns; - where one round says nothing of the noise."
        )
    else:
        lines.append(
            "Executed instructions of an emulated board: no latency, and no speed-up follows."
        )
    if study.disturbed:
        lines.append(
            f"The machine was not idle (load average {study.load:.1f} on {study.threads} "
            "threads before the study): the times are noisy; run it again on an idle one."
        )
    return lines


def slower(study: Study) -> list[Comparison]:
    """Return the pairs in which the factorized layer costs more than the standard one."""
    return [each for each in study.comparisons if each.measured < 1]


def markdown(study: Study) -> str:
    """Return the page."""
    versions = ", ".join(f"{name} {number}" for name, number in study.versions.items())
    headings = ["layer", "shape", *_headings(study), *_rate_headings(study), "most of it in"]
    rows = [[*cells[:-1], *_rates(pair, study), cells[-1]] for pair, cells in _rows(study)]
    worse = slower(study)
    lines = [
        f"# {_title(study)}",
        "",
        f"Measured on {study.where}, {study.date}, batch 1, float32, channels-last as inside "
        f"a network; {versions}. "
        f"{study.kernels} different kernels tuned, {study.candidates} candidates measured; every "
        f"library within {study.tolerance:.0e} of the spread of PyTorch's output.",
        "",
        "![theory against measurement](study.png)",
        "",
        *_lines("layer", _summary_headings(study), _summary(study)),
        "",
        f"In {len(worse)} of {len(study.comparisons)} pairs the factorized layer costs more than "
        "the standard one" + (": " + "; ".join(map(_named, worse)) if worse else "") + ".",
        "",
        "## All pairs",
        "",
        "A shape is channels in and out, the filter (and its stride), the input's size.",
        "",
        *_lines(headings[0], headings[1:], rows),
        "",
        *[f"- {line}" for line in legend(study)],
        f"- {_rate_unit(study)}: multiply-accumulates for what a layer costs. delivered is the "
        "factorized layer's over the standard one's.",
        "- most of it in: the kernel that costs the factorized layer most, and its share, by "
        "the tuning records.",
        "",
        "## Formulas",
        "",
        *_formulas(study),
        "",
    ]
    return "\n".join(lines)


def _title(study: Study) -> str:
    return f"Factorized layers against standard ones on {study.target}"


def _named(pair: Comparison) -> str:
    return f"{pair.layer} {pair.shape}"


def _rows(study: Study) -> list[tuple[Comparison, list[str]]]:
    """The pairs layer by layer, each with its cells."""
    ordered = (pair for pairs in by_layer(study).values() for pair in pairs)
    return [(pair, _cells(pair, study)) for pair in ordered]


def _headings(study: Study) -> list[str]:
    unit = "ms" if study.in_seconds else "M instr."
    return [
        "MACs",
        "formula",
        f"std, {unit}",
        f"fact, {unit}",
        measured_name(study),
        *(["±"] if study.in_seconds else []),
        "delivered",
    ]


def _cells(pair: Comparison, study: Study) -> list[str]:
    kernel, share = pair.factorized.dearest
    return [
        pair.layer,
        str(pair.shape),
        f"{pair.theoretical:.2f}x",
        "=" if pair.formula_holds else f"{pair.promised:.2f}x",
        _cost(pair.standard, study),
        _cost(pair.factorized, study),
        f"{pair.measured:.2f}x",
        *(["-" if pair.noise is None else f"{pair.noise:.0%}"] if study.in_seconds else []),
        f"{pair.delivered:.0%}",
        f"{kernel.label} ({share:.0%})",
    ]


def _cost(layer: LayerCost, study: Study) -> str:
    return f"{layer.cost * 1e3:.3f}" if study.in_seconds else f"{layer.cost / 1e6:.2f}"


def _rate_unit(study: Study) -> str:
    return "GMAC/s" if study.in_seconds else "MACs an instruction"


def _rate_headings(study: Study) -> list[str]:
    return [f"std, {_rate_unit(study)}", f"fact, {_rate_unit(study)}"]


def _rates(pair: Comparison, study: Study) -> list[str]:
    scale = 1e9 if study.in_seconds else 1.0
    return [f"{layer.mac_rate / scale:.2f}" for layer in (pair.standard, pair.factorized)]


def _style(pair: Comparison) -> str:
    if pair.measured < 1:
        return "bold red"
    return "green" if pair.delivered >= 0.8 else "yellow" if pair.delivered >= 0.5 else "red"


def _summary_headings(study: Study) -> list[str]:
    return ["pairs", "MACs", measured_name(study), "delivered"]


def _summary(study: Study) -> list[list[str]]:
    return [
        [
            layer,
            str(len(pairs)),
            _range([each.theoretical for each in pairs]),
            _range([each.measured for each in pairs]),
            _range([each.delivered for each in pairs], percent=True),
        ]
        for layer, pairs in by_layer(study).items()
    ]


def _range(values: Sequence[float], percent: bool = False) -> str:
    def show(value: float) -> str:
        return f"{value:.0%}" if percent else f"{value:.2f}x"

    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{show(middle)} ({show(low)} to {show(high)})" if len(values) > 1 else show(middle)


def _formulas(study: Study) -> list[str]:
    rows = {
        each.layer: [each.layer, f"`{each.formula.text}`", each.formula.source]
        for each in study.comparisons
    }
    lines = _lines("layer", ["share of the standard layer's", "source"], rows.values())
    off = [each for each, _ in _rows(study) if not each.formula_holds]
    if not off:
        return [*lines, "", "Formula and count are the same fraction in all pairs."]
    told = [f"- {_named(each)}: {'; '.join(each.formula.departures)}" for each in off]
    return [*lines, "", "Formula and count differ in:", "", *told]


def _lines(first: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join([first, *headings])} |",
        f"|---|{'---|' * len(headings)}",
        *(f"| {' | '.join(cells)} |" for cells in rows),
    ]
