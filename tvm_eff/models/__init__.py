"""The model zoo: one file a paper, plain PyTorch."""

from tvm_eff.models.factorization import FactorizedLayer, Formula, standard_twin
from tvm_eff.models.network import Network
from tvm_eff.models.program import Program, trace
from tvm_eff.models.registry import ModelSpec, create, names, spec
from tvm_eff.models.source import load

__all__ = [
    "FactorizedLayer",
    "Formula",
    "ModelSpec",
    "Network",
    "Program",
    "create",
    "load",
    "names",
    "spec",
    "standard_twin",
    "trace",
]
