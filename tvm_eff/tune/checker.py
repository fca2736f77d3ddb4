"""Is a candidate's result right? The measures that the product is held to as well."""

from tvm_eff.numerics import TOLERANCE, random_inputs, relative_error

__all__ = ["TOLERANCE", "random_inputs", "relative_error"]
