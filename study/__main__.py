"""``python -m study``: what factorized layers promise, and what a target delivers of it."""

from study.command import main
from tvm_eff.cli.run import leave

if __name__ == "__main__":
    leave(main())
