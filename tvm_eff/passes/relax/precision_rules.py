"""How operators are computed where activations are stored as float16.

What is in none of these tables is computed in float32, in a kernel of its own.
"""

from __future__ import annotations

# Sums of products, whose operator has a dtype for its sums.
SUMS = frozenset(f"relax.{name}" for name in ("matmul", "nn.conv1d", "nn.conv2d", "nn.conv3d"))

# Sums over axes.
REDUCTIONS = frozenset(f"relax.{name}" for name in ("mean", "prod", "std", "sum", "variance"))

# Computed in float16 with one rounding or none; where a sum comes before them, in float32.
ELEMENTWISE = frozenset(
    f"relax.{name}"
    for name in (
        *("abs", "add", "clip", "maximum", "minimum", "multiply", "negative", "subtract"),
        *("nn.leakyrelu", "nn.prelu", "nn.relu"),
    )
)

# They choose or move values and compute none.
MOVES = frozenset(
    f"relax.{name}"
    for name in (
        *("broadcast_to", "concat", "expand_dims", "flatten", "flip", "gather_elements"),
        *("gather_nd", "layout_transform", "nn.pad", "permute_dims", "repeat", "reshape"),
        *("split", "squeeze", "stack", "strided_slice", "take", "tile"),
        *("equal", "greater", "greater_equal", "less", "less_equal", "not_equal", "where"),
    )
)

# So do these, in a kernel of their own.
EXTREMES = frozenset(
    f"relax.{name}"
    for name in (
        *("argmax", "argmin", "max", "min"),
        *("nn.max_pool1d", "nn.max_pool2d", "nn.max_pool3d"),
    )
)

# The same values under another shape.
VIEWS = frozenset(
    f"relax.{name}" for name in ("expand_dims", "flatten", "permute_dims", "reshape", "squeeze")
)

# Each element for itself, in float32.
FUNCTIONS = frozenset(
    f"relax.{name}"
    for name in (
        *("acos", "acosh", "asin", "asinh", "atan", "atanh", "ceil", "cos", "cosh", "divide"),
        *("erf", "exp", "floor", "floor_divide", "floor_mod", "log", "mod", "power", "round"),
        *("rsqrt", "sigmoid", "sign", "sin", "sinh", "sqrt", "square", "tan", "tanh", "trunc"),
        *("nn.gelu", "nn.gelu_tanh", "nn.selu", "nn.silu", "nn.softplus"),
    )
)
