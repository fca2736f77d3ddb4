"""The promise against the delivery: what factorized layers save on paper and on a target.

Names are looked up when they are first used: ``python -m study --help`` needs none of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from study.grid import DEFAULT_SHAPES as DEFAULT_SHAPES
    from study.grid import FAMILIES as FAMILIES
    from study.grid import QUICK_SHAPES as QUICK_SHAPES
    from study.grid import LayerShape as LayerShape
    from study.measure import ROUNDS as ROUNDS
    from study.measure import StudyOptions as StudyOptions
    from study.measure import run as run
    from study.report import require_writable as require_writable
    from study.report import write as write
    from study.result import Comparison as Comparison
    from study.result import Kernel as Kernel
    from study.result import LayerCost as LayerCost
    from study.result import Study as Study

_MODULES = {
    "Comparison": "result",
    "DEFAULT_SHAPES": "grid",
    "FAMILIES": "grid",
    "Kernel": "result",
    "LayerCost": "result",
    "LayerShape": "grid",
    "QUICK_SHAPES": "grid",
    "ROUNDS": "measure",
    "Study": "result",
    "StudyOptions": "measure",
    "require_writable": "report",
    "run": "measure",
    "write": "report",
}
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
