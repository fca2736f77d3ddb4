"""Tune a model for a target and write its validated library: see --help."""

import sys

import _environment

if __name__ == "__main__":
    _environment.enter()
    from tvm_eff.cli import tune

    sys.exit(tune.main())
