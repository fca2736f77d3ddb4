"""List tuning records, or prune them to ship: see --help."""

import sys

import _environment

if __name__ == "__main__":
    _environment.enter()
    from tvm_eff.cli import records

    sys.exit(records.main())
