"""Tune a model for a target and write its validated library: see --help."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tvm_eff.cli import tune  # noqa: E402 - the checkout must be on the path first

if __name__ == "__main__":
    sys.exit(tune.main())
