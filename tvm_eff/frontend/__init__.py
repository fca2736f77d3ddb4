"""Import of PyTorch modules to Relax."""

from tvm_eff.frontend.importer import import_model, import_program

__all__ = ["import_model", "import_program"]
