"""The Python that peers are run with, an environment of their own."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from tvm_eff.errors import UsageError

_ENVIRONMENT = Path(__file__).parents[1] / ".venv" / "bin" / "python"


def add_peers_python(parser: argparse.ArgumentParser) -> None:
    """Let a command line name it."""
    parser.add_argument(
        "--peers-python",
        type=_located,
        default=_ENVIRONMENT if _ENVIRONMENT.exists() else Path(sys.executable),
        help="the Python with benchmarks/requirements.txt (default: %(default)s)",
    )


def require_peers_python(path: Path) -> None:
    """Find out before the first minute that it is not there.

    Raises
    ------
    UsageError
        It is not.
    """
    if not path.is_file():
        raise UsageError(f"--peers-python {path}: there is no such file; see --help")


def _located(text: str) -> Path:
    """From any folder it is the same file; resolved it would leave its environment."""
    return Path(shutil.which(text) or text).absolute()
