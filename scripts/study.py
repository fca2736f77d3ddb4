"""What factorized layers promise, and what a target delivers of it: see --help."""

import _environment

if __name__ == "__main__":
    _environment.enter()
    from tvm_eff.cli import study
    from tvm_eff.cli._run import leave

    leave(study.main())
