"""Import of PyTorch modules to Relax."""

from tvm_eff.frontend.half import rounds_to_half
from tvm_eff.frontend.importer import decompose, import_model, import_program
from tvm_eff.frontend.nodes import described
from tvm_eff.frontend.quantized import is_quantized
from tvm_eff.frontend.single import SingleOperator, single_operators

__all__ = [
    "SingleOperator",
    "decompose",
    "described",
    "import_model",
    "import_program",
    "is_quantized",
    "rounds_to_half",
    "single_operators",
]
