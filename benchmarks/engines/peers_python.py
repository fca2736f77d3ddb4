"""The Python that peers are run with, an environment of their own."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

_ENVIRONMENT = Path(__file__).parents[1] / ".venv" / "bin" / "python"


def add_peers_python(parser: argparse.ArgumentParser) -> None:
    """Let a command line name it."""
    parser.add_argument(
        "--peers-python",
        type=_executable,
        default=_ENVIRONMENT if _ENVIRONMENT.exists() else Path(sys.executable),
        help="the Python with benchmarks/requirements.txt (default: %(default)s)",
    )


def _executable(text: str) -> Path:
    """From any folder it is the same file; resolved it would leave its environment."""
    path = Path(text).absolute()
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"{text}: there is no such file; see --help")
    return path
