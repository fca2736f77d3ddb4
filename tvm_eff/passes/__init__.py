"""Passes from the imported network to machine code; :mod:`tvm_eff.passes.pipeline` has all."""

from tvm_eff.passes.network import RelaxNetwork
from tvm_eff.passes.pipeline import DTYPES, lower, require_dtype
from tvm_eff.passes.relax.concatenation import join_concatenated

__all__ = ["DTYPES", "RelaxNetwork", "join_concatenated", "lower", "require_dtype"]
