"""Time a bundle; python scripts/bench.py --help says how."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tvm_eff.cli.bench import main

if __name__ == "__main__":
    sys.exit(main())
