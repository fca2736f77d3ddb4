"""Lets a script run under any Python: hands over to the checkout's environment if need be."""

import importlib.util
import os
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent


def enter() -> None:
    """Make `tvm_eff` and what it needs importable, or say how to and exit with 2."""
    sys.path.insert(0, str(CHECKOUT))
    if importlib.util.find_spec("tvm") is not None:
        return
    python = CHECKOUT / ".venv" / "bin" / "python"
    if python.is_file() and Path(sys.prefix) != python.parent.parent:
        os.execv(python, [str(python), *sys.argv])
    print(
        f"error: this Python ({sys.executable}) has no TVM; set up the environment with\n"
        f"    python3 {CHECKOUT / 'scripts' / 'setup_env.py'}",
        file=sys.stderr,
    )
    sys.exit(2)
