"""The promise against the delivery: what factorized layers save on paper and on a target."""

from study.grid import DEFAULT_SHAPES, FAMILIES, QUICK_SHAPES, LayerShape
from study.measure import ROUNDS, StudyOptions, run
from study.report import require_writable, write
from study.result import Comparison, Kernel, LayerCost, Study

__all__ = [
    "DEFAULT_SHAPES",
    "FAMILIES",
    "QUICK_SHAPES",
    "ROUNDS",
    "Comparison",
    "Kernel",
    "LayerCost",
    "LayerShape",
    "Study",
    "StudyOptions",
    "require_writable",
    "run",
    "write",
]
