"""Time a bundle; python scripts/bench.py --help says how."""

import sys

import _environment

if __name__ == "__main__":
    _environment.enter()
    from tvm_eff.cli import bench

    sys.exit(bench.main())
