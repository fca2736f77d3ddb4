"""The promise against the delivery: what factorized layers save on paper and on a target."""

from tvm_eff.study.grid import DEFAULT_SHAPES, FAMILIES, QUICK_SHAPES, LayerShape
from tvm_eff.study.measure import ROUNDS, StudyOptions, run
from tvm_eff.study.report import require_writable, write
from tvm_eff.study.result import Comparison, Kernel, LayerCost, Study

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
