"""A study as a picture: what was promised against what was measured, and where it falls short."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from study.report import by_layer, measured_name, worse_name
from study.result import Comparison, Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

# Okabe and Ito's colors, which the color-blind can tell apart.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
_MARKERS = "osD^vPX<>"
_DPI = 150


def plot(study: Study) -> Figure:
    """Draw measured over theoretical ratios, and the fraction delivered of every pair.

    Returns
    -------
    Figure
        Its ``savefig`` writes it.
    """
    layers, shapes = by_layer(study), list(dict.fromkeys(p.shape for p in study.comparisons))
    height = max(6.2, 2.2 + 0.42 * len(layers))
    figure = Figure(
        figsize=(6.4 + 2.6 + 0.95 * len(shapes), height), dpi=_DPI, layout="constrained"
    )
    FigureCanvasAgg(figure)
    scatter, grid = figure.subplots(1, 2, width_ratios=(6.4, 2.6 + 0.95 * len(shapes)))
    figure.suptitle(
        f"Factorized layers against standard ones on {study.target}\n{study.where}, {study.date}",
        fontsize=11,
    )
    _scatter(scatter, study, layers)
    _heatmap(grid, study, layers)
    return figure


def _scatter(axes: Axes, study: Study, layers: dict[str, list[Comparison]]) -> None:
    values = [v for each in study.comparisons for v in (each.theoretical, each.measured)]
    low, high = min(*values, 0.8) / 1.3, max(values) * 1.3
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
    for axis in (axes.xaxis, axes.yaxis):
        _plain_numbers(axis)
    line = np.array([low, high])
    axes.axhspan(low, 1, color="#d55e00", alpha=0.1, lw=0)
    told = f"{worse_name(study)} than the standard layer"
    axes.text(high * 0.95, low * 1.03, told, ha="right", va="bottom", fontsize=8)
    for part, style in ((1, "-"), (1 / 2, "--"), (1 / 4, ":")):
        label = {1: "delivered in full", 1 / 2: "half", 1 / 4: "a quarter"}[part]
        axes.plot(line, line * part, style, color="black", lw=1, zorder=1)
        at = high / 1.6 if part == 1 else high / 1.15
        axes.annotate(
            label, (at, at * part), (0, 3), textcoords="offset points", ha="right", va="bottom",
            rotation=45, rotation_mode="anchor", fontsize=8,
        )  # fmt: skip
    for name, pairs in layers.items():
        color, marker = _look(study, name)
        x, y = [each.theoretical for each in pairs], [each.measured for each in pairs]
        spreads = [each.spread for each in pairs]
        # Of equal rounds, rounding may put the median a hair outside.
        ends = [
            [max(0.0, m - s[0]) for m, s in zip(y, spreads, strict=True)],
            [max(0.0, s[1] - m) for m, s in zip(y, spreads, strict=True)],
        ]
        axes.errorbar(
            x, y, ends, fmt=marker, color=color, label=name, ms=6, alpha=0.75, mec="white", mew=0.6,
            elinewidth=1, zorder=2,
        )  # fmt: skip
    axes.set_xlabel("theoretical: times fewer multiply-accumulates")
    axes.set_ylabel(f"measured: {measured_name(study)}")
    axes.set_aspect("equal")
    axes.legend(fontsize=8, loc="upper left", title="a point for each shape", title_fontsize=8)


def _heatmap(axes: Axes, study: Study, layers: dict[str, list[Comparison]]) -> None:
    shapes = list(dict.fromkeys(each.shape for each in study.comparisons))
    delivered = np.full((len(layers), len(shapes)), math.nan)
    for row, pairs in enumerate(layers.values()):
        for each in pairs:
            column = shapes.index(each.shape)
            delivered[row, column] = each.delivered
            mark = f"\n({worse_name(study)})" if each.measured < 1 else ""
            far = not 0.2 < each.delivered < 5
            axes.text(
                column, row, f"{each.delivered:.0%}{mark}", ha="center", va="center", fontsize=8,
                color="white" if far else "black",
            )  # fmt: skip
    # White is the whole saving; a tenth of it is as far from that as ten times as much.
    axes.imshow(delivered, cmap="RdBu", norm=LogNorm(0.1, 10), aspect="auto")
    axes.set_facecolor("#eeeeee")
    axes.set_xticks(range(len(shapes)), [str(each).replace(" ", "\n") for each in shapes])
    axes.set_yticks(range(len(layers)), list(layers))
    axes.tick_params(length=0, labelsize=8)
    for tick, name in zip(axes.get_yticklabels(), layers, strict=True):
        tick.set_color(_look(study, name)[0])
    axes.set_title("fraction of the theoretical saving that is delivered", fontsize=10)
    axes.set_xlabel("channels in-out, filter/stride, size", fontsize=8)


def _look(study: Study, layer: str) -> tuple[str, str]:
    """Return the color of a layer's family, and a marker that no other layer has."""
    families = list(dict.fromkeys(each.family for each in study.comparisons))
    layers = list(by_layer(study))
    family = next(each.family for each in study.comparisons if each.layer == layer)
    return (
        _COLORS[families.index(family) % len(_COLORS)],
        _MARKERS[layers.index(layer) % len(_MARKERS)],
    )


def _plain_numbers(axis: Axis) -> None:
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    axis.set_minor_formatter(NullFormatter())
