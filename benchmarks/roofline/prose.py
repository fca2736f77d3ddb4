"""The roofline of a network in sentences."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from roofline.bounds import Limits, bound_of

_NAMED = 3
"""Kernels that are named of each bound."""
_SMALL = 0.02
"""Bounds that cost less than this share of the network are left out."""


def sentences(rows: Sequence[Mapping[str, Any]], limits: Limits) -> list[str]:
    """Return what keeps a network from the peak: a paragraph, then a line for each bound.

    Parameters
    ----------
    rows
        Its kernels, as layers.py writes them.
    limits
        What the machine does.
    """
    timed = [row for row in rows if row["in_network_s"]]
    total = sum(row["in_network_s"] for row in timed)
    if not total:
        return ["No kernel of it was timed."]
    arithmetic = sum(limits.arithmetic(row) for row in timed)
    lines = [
        f"Its kernels take {total * 1e3:.2f} ms together; the multiply-adds of their direct "
        f"computation would take {arithmetic * 1e3:.2f} ms at the peak "
        f"({arithmetic / total:.0%} of it). Where the rest goes, by what holds the kernels:",
        "",
    ]
    groups: dict[str, list[tuple[float, Mapping[str, Any]]]] = defaultdict(list)
    for row in timed:
        groups[bound_of(row, limits)].append((row["in_network_s"] - limits.arithmetic(row), row))
    lost = {name: sum(each for each, _ in group) for name, group in groups.items()}
    for name in sorted(groups, key=lambda name: -lost[name]):
        taken = sum(row["in_network_s"] for _, row in groups[name])
        if taken < _SMALL * total:
            continue
        lines.append(f"- {_sentence(name, groups[name], taken, lost[name], total)}")
    return lines


def _sentence(
    name: str,
    group: Sequence[tuple[float, Mapping[str, Any]]],
    taken: float,
    lost: float,
    total: float,
) -> str:
    largest = sorted(group, key=lambda each: -each[0])[:_NAMED]
    named = "; ".join(f"{row['kernel']} ({_signed(each)} ms)" for each, row in largest)
    more = len(group) - len(largest)
    rest = f"; and {more} more" if more else ""
    what = f"{lost * 1e3:.2f} ms above" if lost >= 0 else f"{-lost * 1e3:.2f} ms below"
    return (
        f"**{name}**: {taken * 1e3:.2f} ms ({taken / total:.0%} of the network), {what} the "
        f"arithmetic: {named}{rest}."
    )


def _signed(seconds: float) -> str:
    return f"{seconds * 1e3:+.2f}"
