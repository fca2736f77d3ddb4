"""From a PyTorch module to Relax: import, then graph passes, down to fused kernels."""

from tvm_eff.frontend.importer import Imported, import_model, import_program
from tvm_eff.frontend.passes.concatenation import join_concatenated
from tvm_eff.frontend.pipeline import DTYPES, lower, require_dtype

__all__ = [
    "DTYPES",
    "Imported",
    "import_model",
    "import_program",
    "join_concatenated",
    "lower",
    "require_dtype",
]
