"""Passes from the imported network to machine code; :mod:`tvm_eff.passes.pipeline` has all."""

from tvm_eff.passes.network import RelaxNetwork
from tvm_eff.passes.pipeline import DTYPES, lower, require_dtype
from tvm_eff.passes.relax.concatenation import write_slices_in_place

__all__ = ["DTYPES", "RelaxNetwork", "lower", "require_dtype", "write_slices_in_place"]
