"""Machine code: one scheduled PrimFunc or a whole module, linked for the target."""

from tvm_eff.codegen.compile import build_kernel, build_module, compile_kernel

__all__ = ["build_kernel", "build_module", "compile_kernel"]
