"""The files of results: one run writes one, and it says which code it ran, on which machine.

Nothing is ever added to a file that is there: figures of two runs never share one.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

import tvm_eff
from tvm_eff import paths, strict
from tvm_eff.device.identity import local_identity
from tvm_eff.errors import UsageError
from tvm_eff.targets.detect import usable_cores

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = {"tvm": "apache-tvm", "torch": "torch", "numpy": "numpy"}

_ABSOLUTE = re.compile(r"(?:(?<=[\s=,:])|^)/[^\s=,:]+")
_SHORT_COMMIT = 12


@dataclass(frozen=True)
class Result:
    """What a file of results holds.

    Attributes
    ----------
    commit
        The commit whose code ran; None if it is not known.
    dirty
        Whether files that git tracks differed from it, other than the results themselves.
    command
        The command line, without absolute paths; None if it is not known.
    date
        The day it started, as ISO 8601 writes it.
    machine
        The fields of :class:`tvm_eff.device.MachineIdentity`, and its ``words``.
    versions
        Of Python and the packages that matter.
    data
        The figures, as the script that measured them lays them out.
    note
        What a reader must know of where they come from.
    """

    commit: str | None
    dirty: bool | None
    command: str | None
    date: str
    machine: dict[str, str | int]
    versions: dict[str, str]
    data: dict[str, Any]
    note: str = ""

    @property
    def words(self) -> str:
        """The machine, in words."""
        return str(self.machine["words"])

    @property
    def commit_words(self) -> str:
        """The commit, in words."""
        if self.commit is None:
            return "commit not recorded"
        return f"commit {self.commit[:_SHORT_COMMIT]}{' with local changes' if self.dirty else ''}"

    @property
    def provenance(self) -> str:
        """A sentence on where the figures come from, which stands beside them."""
        parts = [self.commit_words, self.words, self.date]
        parts += [] if self.command is None else [f"`{self.command}`"]
        text = ", ".join(parts)
        text = text[0].upper() + text[1:]
        return f"{text}; {self.note}." if self.note else f"{text}."

    def with_data(self, data: Mapping[str, Any]) -> Result:
        """Return what the run's file holds once it has found these figures."""
        return replace(self, data=_finite(dict(data)))

    def write(self, path: Path) -> None:
        """Write the file, in the place of one that is there."""
        text = json.dumps(asdict(self), indent=1, allow_nan=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        paths.write_atomic(path, f"{text}\n".encode())


def begin(script: str, argv: Sequence[str] | None, threads: int | None = None) -> Result:
    """Return the result of a run that starts now, without figures.

    Parameters
    ----------
    script
        The script's ``__file__``.
    argv
        Its arguments, those of the process if None.
    threads
        With how many kernels run; all cores by default.

    Raises
    ------
    UsageError
        The package is imported from another place than this checkout, whose commit would
        say nothing of it.
    """
    package = Path(tvm_eff.__file__).resolve().parent
    if package.parent != ROOT:
        raise UsageError(
            f"tvm_eff is imported from {package.parent}, and this script lies in {ROOT}, whose "
            f"commit is not that code's; set PYTHONPATH={ROOT}, or run the other one's script"
        )
    identity = local_identity(usable_cores() if threads is None else threads)
    commit = _git("rev-parse", "HEAD")
    # A script that ran before has written its results; code and records are as they were.
    changes = _git(
        "status", "--porcelain", "--untracked-files=no", "--", ".", f":!{_inside(RESULTS)}"
    )
    return Result(
        commit=commit,
        dirty=None if changes is None else bool(changes),
        command=command_line(script, sys.argv[1:] if argv is None else argv),
        date=date.today().isoformat(),
        machine={**asdict(identity), "words": identity.words},
        versions={
            "python": platform.python_version(),
            **{name: metadata.version(each) for name, each in PACKAGES.items()},
        },
        data={},
    )


def command_line(script: str, arguments: Sequence[str]) -> str:
    """Return a command line as it was typed, but for absolute paths."""
    words = [
        _inside(Path(script).resolve()),
        *(_ABSOLUTE.sub(_shorter, each) for each in arguments),
    ]
    return f"python {shlex.join(words)}"


def read(path: Path) -> Result:
    """Read a file of results.

    Raises
    ------
    UsageError
        It does not say of what code, machine and day its figures are, or is damaged.
    """
    advice = "run the script that writes it again"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}; {advice}") from error
    found = strict.decode_json(content, where=path, error=UsageError, advice=advice)
    result = strict.convert(found, Result, where=path, error=UsageError, advice=advice)
    if "words" not in result.machine:
        raise UsageError(f"{path}: 'machine' has no 'words'; {advice}")
    return result


def read_all(found: Sequence[Path], allow_mixed: bool) -> dict[str, Result]:
    """Read the files that one page uses, by name.

    Raises
    ------
    UsageError
        One cannot be read, or they are of different commits and that is not allowed.
    """
    results = {path.name: read(path) for path in found}
    if is_mixed(results.values()) and not allow_mixed:
        told = "; ".join(f"{name}: {each.commit_words}" for name, each in results.items())
        raise UsageError(
            f"these results are of different commits, and would stand on one page ({told}); "
            "measure them again at one commit, or give --allow-mixed"
        )
    return results


def is_mixed(results: Iterable[Result]) -> bool:
    """Whether results are of more than one commit, an unknown one being one."""
    return len({each.commit for each in results}) > 1


def add_reading_options(parser: argparse.ArgumentParser) -> None:
    """Let a command line say which results a page is made of."""
    parser.add_argument("--results", type=Path, default=RESULTS, help="default: %(default)s")
    parser.add_argument(
        "--allow-mixed",
        action="store_true",
        help="take results of different commits, each of which the page names",
    )


def _git(*arguments: str) -> str | None:
    """Return what git says of this checkout; None if it is none, or there is no git."""
    command = ["git", "-C", str(ROOT), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _inside(path: Path) -> str:
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name


def _shorter(found: re.Match[str]) -> str:
    return _inside(Path(found.group()))


def _finite(value: Any) -> Any:
    """Return data with null for what JSON has no number for."""
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
