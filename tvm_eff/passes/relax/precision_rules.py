"""The precision in which operators are computed where activations are stored as float16.

Operators in none of these tables are computed in float32, in separate kernels.
"""

from __future__ import annotations

# Sums of products, whose operators have an accumulation dtype.
CONTRACTIONS = frozenset(
    f"relax.{name}" for name in ("matmul", "nn.conv1d", "nn.conv2d", "nn.conv3d")
)

# Reductions by addition or multiplication.
REDUCTIONS = frozenset(f"relax.{name}" for name in ("mean", "prod", "std", "sum", "variance"))

# In float16, with at most one rounding; in float32 as the epilogue of a sum.
ELEMENTWISE = frozenset(
    f"relax.{name}"
    for name in (
        *("abs", "add", "clip", "maximum", "minimum", "multiply", "negative", "subtract"),
        *("nn.leakyrelu", "nn.prelu", "nn.relu"),
    )
)

# Select or move values without arithmetic.
DATA_MOVEMENT = frozenset(
    f"relax.{name}"
    for name in (
        *("broadcast_to", "concat", "expand_dims", "flatten", "flip", "gather_elements"),
        *("gather_nd", "layout_transform", "nn.pad", "permute_dims", "repeat", "reshape"),
        *("split", "squeeze", "stack", "strided_slice", "take", "tile"),
        *("equal", "greater", "greater_equal", "less", "less_equal", "not_equal", "where"),
    )
)

# The same, but in separate kernels.
MIN_MAX_REDUCTIONS = frozenset(
    f"relax.{name}"
    for name in (
        *("argmax", "argmin", "max", "min"),
        *("nn.max_pool1d", "nn.max_pool2d", "nn.max_pool3d"),
    )
)

# Change the shape only.
VIEWS = frozenset(
    f"relax.{name}" for name in ("expand_dims", "flatten", "permute_dims", "reshape", "squeeze")
)

# Elementwise, in float32.
FLOAT32_FUNCTIONS = frozenset(
    f"relax.{name}"
    for name in (
        *("acos", "acosh", "asin", "asinh", "atan", "atanh", "ceil", "cos", "cosh", "divide"),
        *("erf", "exp", "floor", "floor_divide", "floor_mod", "log", "mod", "power", "round"),
        *("rsqrt", "sigmoid", "sign", "sin", "sinh", "sqrt", "square", "tan", "tanh", "trunc"),
        *("nn.gelu", "nn.gelu_tanh", "nn.selu", "nn.silu", "nn.softplus"),
    )
)

# Where only some layers are in float16: what their values may be passed through as float16. The
# first of these select values, the second ones limit them, and the third are rounded once there.
SELECTIONS = VIEWS | frozenset(
    f"relax.{name}" for name in ("concat", "nn.max_pool2d", "nn.pad", "strided_slice")
)
LIMITS = frozenset(("relax.clip", "relax.nn.relu"))
PRODUCTS_AND_SUMS = frozenset(("relax.add", "relax.multiply"))
