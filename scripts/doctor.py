"""Show what this machine has for tvm_eff: see --help."""

import sys

import _environment

if __name__ == "__main__":
    _environment.enter()
    from tvm_eff.cli import doctor

    sys.exit(doctor.main())
