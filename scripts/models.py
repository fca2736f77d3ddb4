"""List the models of the zoo: see --help."""

import sys

import _environment

if __name__ == "__main__":
    _environment.enter()
    from tvm_eff.cli import models

    sys.exit(models.main())
