"""Tune a model for a target and write its validated library: see --help."""

import _environment

if __name__ == "__main__":
    _environment.enter()
    from tvm_eff.cli import tune
    from tvm_eff.cli.run import leave

    leave(tune.main())
