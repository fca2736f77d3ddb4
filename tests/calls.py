"""Calls of PyTorch's operators by chance: each number is a call, the same every time."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from tvm_eff.tensors import TensorSpec

Function = Callable[..., Any]
Maker = Callable[[random.Random], tuple[Function, list[TensorSpec], str]]

DTYPES = ("float32", "float32", "float32", "int64", "int32", "uint8", "bool")

_ACTIVATIONS = """
    relu relu6 gelu silu sigmoid tanh elu selu celu mish softplus softsign hardtanh hardswish
    hardsigmoid leaky_relu logsigmoid tanhshrink softshrink hardshrink
"""
_PLAIN = """
    exp sin cos tan sinh cosh asin acos atan asinh erf floor ceil round trunc frac sign abs neg
    square reciprocal exp2 expm1 isnan isinf isfinite sgn logical_not
"""
_OF_POSITIVE = """
    log log2 log10 log1p sqrt rsqrt
"""
_OF_TWO = """
    add sub mul maximum minimum eq ne lt le gt ge logical_and logical_or logical_xor
"""


@dataclass(frozen=True)
class Call:
    """An operator on tensors."""

    number: int
    function: Function
    inputs: tuple[TensorSpec, ...]
    words: str

    def __str__(self) -> str:
        shapes = ", ".join(f"{list(spec.shape)} {spec.dtype}" for spec in self.inputs)
        return f"{self.number}: {self.words} of {shapes}"


class Called(nn.Module):
    """Several calls as one module, each with inputs of its own."""

    def __init__(self, calls: Sequence[Call]) -> None:
        super().__init__()
        self.calls = list(calls)

    def forward(self, *tensors: torch.Tensor) -> Any:
        """Return the results of all."""
        left = list(tensors)
        results = []
        for call in self.calls:
            own = [left.pop(0) for _ in call.inputs]
            results.append(call.function(*own))
        return results


def call(number: int) -> Call:
    """Return the call of a number."""
    rng = random.Random(number)
    function, inputs, words = rng.choice(MAKERS)(rng)
    return Call(number, function, tuple(inputs), words)


def shape(rng: random.Random, rank: int | None = None) -> tuple[int, ...]:
    rank = rng.randint(1, 4) if rank is None else rank
    return tuple(rng.choice((1, 2, 3, 4, 5, 7)) for _ in range(rank))


def image(rng: random.Random, channels: int | None = None) -> TensorSpec:
    c = rng.choice((1, 2, 4, 6)) if channels is None else channels
    return TensorSpec((rng.randint(1, 2), c, rng.randint(5, 13), rng.randint(5, 13)), "float32")


def unary(rng: random.Random) -> tuple[Function, list[TensorSpec], str]:
    activations = _ACTIVATIONS.split()
    name = rng.choice([*activations, *_PLAIN.split()])
    chosen = getattr(F if name in activations else torch, name)
    return lambda x: chosen(x), [TensorSpec(shape(rng), "float32")], name


def positive(rng: random.Random) -> tuple[Function, list[TensorSpec], str]:
    name = rng.choice(_OF_POSITIVE.split())
    chosen = getattr(torch, name)
    return lambda x: chosen(x.abs() + 0.1), [TensorSpec(shape(rng), "float32")], name


def parametric(rng: random.Random) -> tuple[Function, list[TensorSpec], str]:
    a, b = rng.uniform(0.1, 2), rng.uniform(0.1, 2)
    choices: dict[str, Function] = {
        "leaky_relu": lambda x: F.leaky_relu(x, a),
        "elu": lambda x: F.elu(x, a),
        "celu": lambda x: F.celu(x, a),
        "hardtanh": lambda x: F.hardtanh(x, -a, b),
        "softplus": lambda x: F.softplus(x, a, b * 10),
        "threshold": lambda x: F.threshold(x, a, b),
        "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
        "glu": lambda x: F.glu(torch.cat([x, x], -1), -1),
        "pow": lambda x: x.abs() ** b,
        "square_root_of_power": lambda x: (x**2).sqrt(),
        "clamp": lambda x: x.clamp(-a, b),
        "clamp_min": lambda x: x.clamp(min=-a),
        "clamp_max": lambda x: x.clamp(max=b),
        "lerp": lambda x: torch.lerp(x, x * 2, a),
        "addcmul": lambda x: torch.addcmul(x, x, x, value=a),
        "addcdiv": lambda x: torch.addcdiv(x, x, x.abs() + 1, value=b),
        "nan_to_num": lambda x: torch.nan_to_num(x / (x > 0), nan=a, posinf=b, neginf=-b),
        "round_decimals": lambda x: torch.round(x, decimals=2),
    }
    name = rng.choice(sorted(choices))
    return choices[name], [TensorSpec(shape(rng), "float32")], f"{name} {a:.3g} {b:.3g}"


def binary(rng: random.Random) -> tuple[Function, list[TensorSpec], str]:
    name = rng.choice(_OF_TWO.split())
    one, other = rng.choice(DTYPES), rng.choice(DTYPES)
    first = shape(rng)
    second = tuple(rng.choice((1, each)) for each in first[rng.randint(0, len(first) - 1) :])
    if name == "sub" and "bool" in (one, other):
        name = "add"
    chosen = getattr(torch, name)
    specs = [TensorSpec(first, one), TensorSpec(second, other)]
    if rng.random() < 0.5:
        specs.reverse()
    return lambda x, y: chosen(x, y), specs, name


def with_number(rng: random.Random) -> tuple[Function, list[TensorSpec], str]:
    number: Any = rng.choice((2, 3, -1, 0.5, 127.5, -2.25, 7))
    dtype = rng.choice(DTYPES)
    choices: dict[str, Function] = {
        "add": lambda x: x + number,
        "rsub": lambda x: number - x.float(),
        "mul": lambda x: x * number,
        "div": lambda x: x / number,
        "rdiv": lambda x: number / (x.float().abs() + 1),
        "floor_divide": lambda x: torch.div(x.int(), number, rounding_mode="floor"),
        "trunc_divide": lambda x: torch.div(x.float(), number, rounding_mode="trunc"),
        "remainder": lambda x: torch.remainder(x.int(), number),
        "fmod": lambda x: torch.fmod(x.float(), number),
        "ge": lambda x: x >= number,
        "lt": lambda x: x < number,
        "ne": lambda x: x != number,
        "add_alpha": lambda x: torch.add(x.float(), x.float(), alpha=number),
        "sub_alpha": lambda x: torch.sub(x.float(), x.float() * 2, alpha=number),
        "where": lambda x: torch.where(x > 0, x, number),
        "masked_fill": lambda x: x.float().masked_fill(x > 0, number),
        "full_like": lambda x: torch.full_like(x.float(), number) + x,
    }
    name = rng.choice(sorted(choices))
    return choices[name], [TensorSpec(shape(rng), dtype)], f"{name} {number}"


def reduction(rng: random.Random) -> tuple[Function, list[TensorSpec], str]:
    size = shape(rng, rng.randint(2, 4))
    axis, keep = rng.randrange(-len(size), len(size)), rng.random() < 0.5
    dtype = rng.choice(("float32", "float32", "int64", "int32", "uint8"))
    real: dict[str, Function] = {
        "mean": lambda x: x.float().mean(axis, keep),
        "var": lambda x: x.float().var(axis, unbiased=False, keepdim=keep),
        "std": lambda x: torch.cat([x, x + 1], axis).float().std(axis, keepdim=keep),
        "softmax": lambda x: x.float().softmax(axis),
        "log_softmax": lambda x: x.float().log_softmax(axis),
        "softmin": lambda x: F.softmin(x.float(), axis),
        "logsumexp": lambda x: x.float().logsumexp(axis, keep),
        "norm": lambda x: x.float().norm(dim=axis, keepdim=keep),
        "norm_1": lambda x: x.float().norm(p=1, dim=axis, keepdim=keep),
        "normalize": lambda x: F.normalize(x.float(), dim=axis),
        "cumsum": lambda x: x.cumsum(axis),
        "prod": lambda x: (x.float() / 3).prod(axis, keep),
        "sum": lambda x: x.sum(axis, keep),
        "sum_all": lambda x: x.sum(),
        "mean_of_two": lambda x: x.float().mean((0, 1), keep),
        "amax": lambda x: x.amax(axis, keep),
        "amin": lambda x: x.amin(axis, keep),
        "max_and_place": lambda x: tuple(x.max(axis, keep)),
        "min_and_place": lambda x: tuple(x.min(axis, keep)),
        "argmax": lambda x: x.argmax(axis, keep),
        "argmin": lambda x: x.argmin(axis, keep),
        "argmax_all": lambda x: x.argmax(),
        "any": lambda x: (x > 1).any(axis, keep),
        "all": lambda x: (x > -1).all(axis, keep),
        "count_nonzero": lambda x: (x > 0).sum(axis),
        "aminmax": lambda x: (x.max(), x.min()),
    }
    name = rng.choice(sorted(real))
    return real[name], [TensorSpec(size, dtype)], f"{name} over {axis}, keep {keep}"


def moving(rng: random.Random) -> tuple[Function, list[TensorSpec], str]:
    size = shape(rng, rng.randint(2, 4))
    axis = rng.randrange(-len(size), len(size))
    extent = size[axis]
    start, end = sorted((rng.randint(-extent, extent), rng.randint(-extent, extent)))
    step = rng.randint(1, 3)
    place = rng.randrange(-extent, extent)
    order = rng.sample(range(len(size)), len(size))
    window = [slice(None)] * len(size)
    window[axis % len(size)] = slice(start, end, step)
    choices: dict[str, Function] = {
        "slice": lambda x: x[tuple(window)],
        "select": lambda x: x.select(axis, place),
        "permute": lambda x: x.permute(order),
        "flip": lambda x: x.flip(axis),
        "roll": lambda x: x.roll(place, axis),
        "cat": lambda x: torch.cat([x, x * 2, x], axis),
        "stack": lambda x: torch.stack([x, x], axis),
        "chunk": lambda x: x.chunk(2, axis)[0],
        "split": lambda x: x.split(2, axis),
        "unbind": lambda x: x.unbind(axis)[-1],
        "repeat": lambda x: x.repeat(2, *[1] * (len(size) - 1)),
        "repeat_interleave": lambda x: x.repeat_interleave(2, axis),
        "expand": lambda x: x.unsqueeze(0).expand(3, *size),
        "flatten": lambda x: x.flatten(1) if len(size) > 1 else x,
        "reshape": lambda x: x.reshape(-1, size[-1]),
        "squeeze": lambda x: x.unsqueeze(axis).squeeze(axis),
        "tril": lambda x: x.tril(step - 2),
        "triu": lambda x: x.triu(step - 2),
        "narrow": lambda x: x.narrow(axis, 0, max(1, extent // 2)),
        "index_select": lambda x: x.index_select(axis, torch.tensor([0, extent - 1, 0])),
        "listed": lambda x: x[[0, -1, 0]],
        "listed_last": lambda x: x[..., [-1, 0]],
        "written": lambda x: torch.slice_scatter(x, x[tuple(window)] * 2, axis, start, end, step),
        "selected": lambda x: torch.select_scatter(x, x.select(axis, 0), axis, place),
        "diff": lambda x: torch.cat([x, x], axis).float().diff(dim=axis),
        "movedim": lambda x: x.movedim(axis, 0),
        "where_rows": lambda x: torch.where(x > 0, x, x.flip(axis)),
        "gather": lambda x: x.gather(axis, torch.zeros(size, dtype=torch.long)),
        "one_hot": lambda x: F.one_hot(x.long().abs() % 5, 5),
        "take_along": lambda x: x.take_along_dim(x.argmax(axis, keepdim=True), axis),
    }
    name = rng.choice(sorted(choices))
    dtype = rng.choice(("float32", "float32", "int64", "int32"))
    words = f"{name} axis {axis}, {start}:{end}:{step}, place {place}, order {order}"
    return choices[name], [TensorSpec(size, dtype)], words


def convolution(rng: random.Random) -> tuple[Function, list[TensorSpec], str]:
    groups = rng.choice((1, 1, 2))
    c, out = groups * rng.randint(1, 3), groups * rng.randint(1, 4)
    rank, kernel = rng.choice((1, 2, 2, 2, 3)), rng.choice((1, 2, 3))
    stride, dilation = rng.randint(1, 2), rng.randint(1, 2)
    padding = rng.randint(0, kernel - 1)
    transposed = rng.random() < 0.3
    torch.manual_seed(rng.randrange(1000))
    name = f"Conv{'Transpose' if transposed else ''}{rank}d"
    options: dict[str, Any] = {"stride": stride, "dilation": dilation, "padding": padding}
    if transposed:
        options["output_padding"] = rng.randrange(max(stride, dilation))
    bias = rng.random() < 0.5
    made = getattr(nn, name)(c, out, kernel, groups=groups, bias=bias, **options)
    size = (rng.randint(1, 2), c, *(rng.randint(5, 9) for _ in range(rank)))
    return made.eval(), [TensorSpec(size, "float32")], str(made)


def pooling(rng: random.Random) -> tuple[Function, list[TensorSpec], str]:
    kernel = rng.choice((2, 3, (2, 3), (3, 1)))
    stride: Any = rng.choice((1, 2, None, (2, 1)))
    padding = rng.choice((0, 0, 1)) if kernel in (2, 3) else 0
    ceil, include = rng.random() < 0.4, rng.random() < 0.5
    divisor = rng.choice((None, None, 3))
    size = rng.choice((1, 2, 3, (2, 4), (None, 3)))
    choices: dict[str, Function] = {
        "max": lambda x: F.max_pool2d(x, kernel, stride, padding, ceil_mode=ceil),
        "avg": lambda x: F.avg_pool2d(x, kernel, stride, padding, ceil, include, divisor),
        "adaptive_avg": lambda x: nn.AdaptiveAvgPool2d(size)(x),
        "adaptive_max": lambda x: nn.AdaptiveMaxPool2d(size)(x),
        "lp": lambda x: F.lp_pool2d(x.abs(), 2, 2, 2),
        "max_1d": lambda x: F.max_pool1d(x.flatten(2), 3, 2, 1),
        "avg_1d": lambda x: F.avg_pool1d(x.flatten(2), 3, 2, 1),
        "adaptive_avg_1d": lambda x: F.adaptive_avg_pool1d(x.flatten(2), 4),
        "adaptive_max_1d": lambda x: F.adaptive_max_pool1d(x.flatten(2), 4),
        "max_3d": lambda x: F.max_pool3d(x.unsqueeze(0), 2),
        "avg_3d": lambda x: F.avg_pool3d(x.unsqueeze(0), (1, 2, 2)),
    }
    name = rng.choice(sorted(choices))
    words = f"{name} {kernel} {stride} {padding} ceil {ceil} include {include} {divisor} {size}"
    return choices[name], [image(rng)], words


def resizing(rng: random.Random) -> tuple[Function, list[TensorSpec], str]:
    mode = rng.choice(("nearest", "nearest-exact", "bilinear", "bicubic", "area"))
    options: dict[str, Any] = {"mode": mode}
    if rng.random() < 0.5:
        options["size"] = (rng.randint(1, 17), rng.randint(1, 17))
    else:
        options["scale_factor"] = rng.choice((0.5, 2, 1.5, 0.7, 3, (2.0, 1.3)))
    if mode in ("bilinear", "bicubic"):
        options["align_corners"] = rng.random() < 0.5
        options["antialias"] = not options["align_corners"] and rng.random() < 0.3
    return lambda x: F.interpolate(x, **options), [image(rng)], f"interpolate {options}"


def padding(rng: random.Random) -> tuple[Function, list[TensorSpec], str]:
    mode = rng.choice(("constant", "reflect", "replicate", "circular"))
    widths = [rng.randint(0, 3) for _ in range(4)]
    value = rng.choice((0.0, 1.5, -2.0)) if mode == "constant" else None
    return (
        lambda x: F.pad(x, widths, mode, value),
        [image(rng)],
        f"pad {widths} {mode} {value}",
    )


def spatial(rng: random.Random) -> tuple[Function, list[TensorSpec], str]:
    choices: dict[str, Function] = {
        "pixel_shuffle": lambda x: F.pixel_shuffle(x, 2),
        "pixel_unshuffle": lambda x: F.pixel_unshuffle(F.pad(x, (0, x.shape[3], 0, x.shape[2])), 2),
        "channel_shuffle": lambda x: F.channel_shuffle(x, 2),
        "unfold": lambda x: F.unfold(x, 3, padding=1, stride=2),
        "grid_sample": lambda x: F.grid_sample(
            x, torch.linspace(-1.1, 1.1, 24).reshape(1, 3, 4, 2).expand(x.shape[0], 3, 4, 2)
        ),
        "group_norm": lambda x: F.group_norm(x, 2),
        "instance_norm": lambda x: F.instance_norm(x),
        "layer_norm": lambda x: F.layer_norm(x, x.shape[1:]),
        "batch_norm": lambda x: F.batch_norm(x, x.mean((0, 2, 3)), x.var((0, 2, 3)) + 1),
        "local_response_norm": lambda x: F.local_response_norm(x, 2),
        "rms_norm": lambda x: F.rms_norm(x, x.shape[-1:]),
        "prelu": lambda x: F.prelu(x, torch.full((4,), 0.2)),
        "softmax2d": lambda x: nn.Softmax2d()(x),
        "global": lambda x: x.mean((2, 3)) + x.amax((2, 3)),
        "cosine": lambda x: F.cosine_similarity(x, x + 1, 1),
        "upsampled": lambda x: nn.UpsamplingBilinear2d(scale_factor=2)(x),
    }
    name = rng.choice(sorted(choices))
    return choices[name], [image(rng, channels=4)], name


def product(rng: random.Random) -> tuple[Function, list[TensorSpec], str]:
    m, k, n, b = (rng.randint(1, 7) for _ in range(4))
    pairs: dict[str, tuple[Function, tuple[int, ...], tuple[int, ...]]] = {
        "matmul": (torch.matmul, (m, k), (k, n)),
        "matmul_batched": (torch.matmul, (b, m, k), (b, k, n)),
        "matmul_broadcast": (torch.matmul, (2, b, m, k), (k, n)),
        "matmul_vector": (torch.matmul, (m, k), (k,)),
        "vector_matmul": (torch.matmul, (k,), (k, n)),
        "dot": (torch.dot, (k,), (k,)),
        "bmm": (torch.bmm, (b, m, k), (b, k, n)),
        "linear": (F.linear, (b, m, k), (n, k)),
        "einsum": (lambda x, y: torch.einsum("bij,bkj->bik", x, y), (b, m, k), (b, n, k)),
        "outer": (torch.outer, (m,), (n,)),
        "addmm": (lambda x, y: torch.addmm(x @ y, x, y, beta=0.5, alpha=2), (m, k), (k, n)),
        "attention": (lambda x, y: F.scaled_dot_product_attention(x, y, y), (b, m, k), (b, n, k)),
        "embedding": (lambda x, y: F.embedding(y.long() % m, x), (m, k), (n,)),
        "bilinear": (lambda x, y: F.bilinear(x, y, torch.ones(2, k, n)), (m, k), (m, n)),
        "cdist": (torch.cdist, (m, k), (n, k)),
    }
    name = rng.choice(sorted(pairs))
    function, left, right = pairs[name]
    return function, [TensorSpec(left, "float32"), TensorSpec(right, "float32")], name


def casting(rng: random.Random) -> tuple[Function, list[TensorSpec], str]:
    source, into = rng.choice(DTYPES), getattr(torch, rng.choice(DTYPES))
    choices: dict[str, Function] = {
        "cast": lambda x: x.to(into),
        "cast_and_add": lambda x: x.to(into) + x,
        "bytes": lambda x: (x.float() * 40).clamp(0, 255).to(torch.uint8),
        "arange": lambda x: x + torch.arange(x.shape[-1]) * 0.5,
        "zeros_like": lambda x: torch.zeros_like(x) + x,
        "new_ones": lambda x: x.new_ones(x.shape) + x,
        "eye": lambda x: torch.eye(3).to(into) + x.flatten()[0],
        "linspace": lambda x: torch.linspace(0, 1, 5) * x.flatten()[0],
        "bitwise_and": lambda x: x.int() & 6,
        "bitwise_or": lambda x: x.int() | 9,
        "shift": lambda x: (x.int() << 2) >> 1,
        "bool_index": lambda x: x * (x > 0),
    }
    name = rng.choice(sorted(choices))
    return choices[name], [TensorSpec(shape(rng), source)], f"{name} {source} {into}"


MAKERS: tuple[Maker, ...] = (
    *(unary, positive, parametric, binary, with_number, reduction, reduction, moving, moving),
    *(convolution, pooling, resizing, padding, spatial, product, casting),
)
