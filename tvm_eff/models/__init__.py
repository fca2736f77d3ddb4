"""The model zoo: one file a paper, plain PyTorch."""

from tvm_eff.models.factorization import FactorizedLayer, Formula, standard_twin
from tvm_eff.models.network import Network
from tvm_eff.models.registry import ModelSpec, create, load, names, spec

__all__ = [
    "FactorizedLayer",
    "Formula",
    "ModelSpec",
    "Network",
    "create",
    "load",
    "names",
    "spec",
    "standard_twin",
]
