"""Where the data that ships with the package lies: targets, tuning logs, C sources."""

from __future__ import annotations

from pathlib import Path

from tvm_eff.errors import SetupError

_PACKAGE = Path(__file__).resolve().parent
_CHECKOUT = _PACKAGE.parent
# setup.py copies the folders here when it builds a wheel.
_INSTALLED = _PACKAGE / "_data"


def is_checkout() -> bool:
    """Whether the package runs from a clone of its repository (an editable install)."""
    return (_CHECKOUT / "setup.py").is_file() and (_CHECKOUT / "targets").is_dir()


def folder(name: str) -> Path:
    """Return the folder of shipped data called `name`, such as ``targets``.

    Raises
    ------
    SetupError
        The package was installed without its data.
    """
    path = (_CHECKOUT if is_checkout() else _INSTALLED) / name
    if path.is_dir():
        return path
    raise SetupError(
        f"the data folder {path} is missing: the installation is incomplete; "
        "install the package again with pip install --force-reinstall --no-deps"
    )


def tuning_logs() -> Path:
    """Return where new records go when the user names no folder.

    That is the repository's own folder in a checkout, so that records can be
    committed, and ``tuning_logs`` in the current folder otherwise.
    """
    return (_CHECKOUT if is_checkout() else Path.cwd()) / "tuning_logs"
