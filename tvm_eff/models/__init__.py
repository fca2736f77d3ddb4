"""The model zoo: one file a paper, plain PyTorch."""

from tvm_eff.models.registry import ModelSpec, create, names, spec

__all__ = ["ModelSpec", "create", "names", "spec"]
