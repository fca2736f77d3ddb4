"""The model zoo in plain PyTorch, one file per paper, and the loading of user models."""

from tvm_eff.models.cost import Cost, account, count
from tvm_eff.models.factorization import FactorizedLayer, Formula, standard_twin
from tvm_eff.models.given import Tensors, example_arrays, inference_mode, network_of
from tvm_eff.models.network import Network
from tvm_eff.models.preprocessing import Preprocessing
from tvm_eff.models.program import Program, trace
from tvm_eff.models.registry import ModelSpec, create, names, outline, spec
from tvm_eff.models.samples import Sample, Samples, read_samples, source_of
from tvm_eff.models.source import load, of_module, of_program

__all__ = [
    "Cost",
    "FactorizedLayer",
    "Formula",
    "ModelSpec",
    "Network",
    "Preprocessing",
    "Program",
    "Sample",
    "Samples",
    "Tensors",
    "account",
    "count",
    "create",
    "example_arrays",
    "inference_mode",
    "load",
    "names",
    "network_of",
    "of_module",
    "of_program",
    "outline",
    "read_samples",
    "source_of",
    "spec",
    "standard_twin",
    "trace",
]
