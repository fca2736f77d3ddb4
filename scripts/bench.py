"""Time a bundle; python scripts/bench.py --help says how."""

import _environment

if __name__ == "__main__":
    _environment.enter()
    from tvm_eff.cli import bench
    from tvm_eff.cli.run import leave

    leave(bench.main())
