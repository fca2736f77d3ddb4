"""Is a candidate's result right? The measures that the product is held to as well."""

from tvm_eff.tensors import (
    TOLERANCE,
    kernel_tolerance,
    random_inputs,
    relative_error,
    rounding_of,
)

__all__ = ["TOLERANCE", "kernel_tolerance", "random_inputs", "relative_error", "rounding_of"]
