"""Efficient CNNs from PyTorch, scheduled by TVM for small boards.

The front door: :func:`compile` makes a validated library of a model, :func:`load` runs one.

Importing the package imports neither torch nor TVM: names are looked up when they are
first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tvm_eff.api import compile as compile
    from tvm_eff.deploy.bundle import Bundle as Bundle
    from tvm_eff.deploy.bundle import load as load
    from tvm_eff.device.base import Device as Device
    from tvm_eff.errors import Error as Error
    from tvm_eff.targets import Target as Target

__version__ = "0.2.0"

_MODULES = {
    "Bundle": "deploy.bundle",
    "Device": "device.base",
    "Error": "errors",
    "Target": "targets",
    "compile": "api",
    "load": "deploy.bundle",
}
__all__ = ["Bundle", "Device", "Error", "Target", "__version__", "compile", "load"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    try:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    except ModuleNotFoundError as error:
        from tvm_eff.errors import not_installed

        raise not_installed(error) from error
