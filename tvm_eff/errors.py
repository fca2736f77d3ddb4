"""Every error a user can cause or meet, under one root.

A message says what was wrong, with which file or value, and what to do next.
The command line prints it and exits with code 2; it never shows a traceback
for one of these.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from numbers import Integral, Real

NoneType = type(None)


class Error(Exception):
    """Root of all errors tvm_eff raises on purpose."""


class UsageError(Error):
    """An option or argument has a value that cannot be used."""


class TargetError(Error):
    """A target is unknown, or its file is not a valid target."""


class ModelError(Error):
    """A model is unknown, cannot be built, traced or imported."""


class SpaceError(Error):
    """A schedule cannot be applied to a workload."""


class BuildError(Error):
    """Compiling or linking failed."""


class InterruptedBuildError(BuildError):
    """A build crashed or took too long, for a reason that need not be its own."""


class SetupError(Error):
    """Something the machine must provide is missing: a tool, a package, a right."""


class DeviceError(Error):
    """A device cannot be started or reached, or it does not come back."""


class UnsuitableDeviceError(DeviceError):
    """A device cannot run what is made for a target, whatever the code computes."""


class ExecutionError(Error):
    """Code crashed, hung or raised on a device that is well again: the code's failure."""


class InterruptedExecutionError(ExecutionError):
    """Code crashed or hung, for a reason that need not be its own."""


class RecordError(Error):
    """A tuning log cannot be read or written."""


class BundleError(Error):
    """A bundle is incomplete, damaged, or made for another target."""


class ValidationError(Error):
    """A library computes something other than the PyTorch model."""


def not_installed(error: ModuleNotFoundError) -> SetupError:
    """Return what to tell a user who lacks a package that only some of us needs.

    Raises
    ------
    ModuleNotFoundError
        It is one of our own modules.
    """
    package = (error.name or str(error)).partition(".")[0]
    if package == __package__:
        raise error
    extra = "study" if package == "matplotlib" else "compile"
    return SetupError(
        f"the package '{package}' is not installed, which running a bundle does not need and this "
        f"does; run: pip install 'tvm_eff[{extra}]'"
    )


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a hint that names the known words closest to `word`.

    Parameters
    ----------
    word
        What the user wrote.
    known
        What would have been accepted.

    Returns
    -------
    str
        ``"; did you mean 'a' or 'b'?"``, or the whole list when nothing is close.
    """
    choices = sorted(known)
    close = difflib.get_close_matches(word, choices, n=3, cutoff=0.5)
    if close:
        return "; did you mean " + " or ".join(f"'{c}'" for c in close) + "?"
    return "; known: " + ", ".join(choices)


def require_kind(what: str, value: object, *kinds: type) -> None:
    """Refuse an argument of another type than a Python function takes.

    Parameters
    ----------
    what
        Names the argument.
    value
        It.
    kinds
        The types that it may have; a bool is no number.

    Raises
    ------
    UsageError
        It has none of them.
    """
    wrong_bool = isinstance(value, bool) and bool not in kinds
    if isinstance(value, kinds) and not wrong_bool:
        return
    expected = " or ".join(_KINDS.get(kind, kind.__name__) for kind in kinds)
    raise UsageError(f"{what} is a {type(value).__name__}; give {expected}")


_KINDS: dict[type, str] = {
    str: "a string",
    bool: "True or False",
    os.PathLike: "a path",
    Integral: "a whole number",
    Real: "a number",
    NoneType: "None",
    list: "a list",
    tuple: "a tuple",
}


def require_positive(**counts: int | None) -> None:
    """Refuse counts below 1, by their names; None stands for one that is not given.

    Raises
    ------
    UsageError
        One is.
    """
    for name, count in counts.items():
        if count is not None and count < 1:
            raise UsageError(f"{name} is {count}; give at least 1, or leave it out")
