"""Count what a network costs on paper: see --help."""

import sys

import _environment

if __name__ == "__main__":
    _environment.enter()
    from tvm_eff.cli import cost

    sys.exit(cost.main())
