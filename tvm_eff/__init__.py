"""Efficient CNNs from PyTorch, scheduled by TVM for small boards.

Importing the package imports neither torch nor TVM; :func:`load` imports TVM's
runtime when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tvm_eff.deploy.bundle import load as load

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    if name != "load":
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from tvm_eff.deploy.bundle import load

    return load
