"""Operators with all of their arguments and dtypes, on inputs that noise does not resemble."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_operators import Applied
from torch import nn

from tvm_eff import frontend, passes, targets
from tvm_eff.deploy.library import build_library
from tvm_eff.device import Device, LocalDevice
from tvm_eff.models import Network, trace
from tvm_eff.tensors import TOLERANCE, TensorSpec, random_inputs, relative_error

INF = float("inf")
LEAST = float(np.finfo("float32").min)
IMAGE = TensorSpec((2, 4, 5, 7), "float32")
BYTES = TensorSpec((2, 3, 4), "uint8")
WORDS = TensorSpec((3, 5), "int64")
SHORTS = TensorSpec((3, 5), "int16")
FLAGS = TensorSpec((3, 5), "bool")

Function = Callable[[torch.Tensor], Any]


def in_place(x: torch.Tensor) -> torch.Tensor:
    y = x * 1.0
    y[:, [0, -1]] = 0.5
    y[:, 1:3, ::2] += 1
    y[:, 0] = x[:, -1]
    y[..., -2] *= 2
    y[x > 1] = -1.0
    return y


def diagonals(x: torch.Tensor) -> torch.Tensor:
    canvas = torch.zeros(2, 6, 6)
    rows = torch.arange(5)
    canvas[:, rows, rows + 1] = x[:, 0, :, 0]
    canvas[:, rows + 1, rows] += x[:, 1, :, 1]
    canvas[1, [3, 0], [-1, 2]] = 7
    return canvas


def added_twice(x: torch.Tensor) -> torch.Tensor:
    places = torch.tensor([0, 2, 0, -1])
    return x.index_put((places % 2, places), x[0, 0, :4, 0, None, None], accumulate=True)


GRID = torch.tensor([[-1.2, -1.0, 0.0, 0.31], [0.5, 0.99, 1.0, 1.3]])


def sampled(x: torch.Tensor) -> list[torch.Tensor]:
    grid = torch.stack([GRID, GRID.flip(1)], -1)[None].expand(2, -1, -1, -1)
    paddings = ("zeros", "border", "reflection")
    return [
        F.grid_sample(x, grid, mode, padding, (number + shift) % 2 == 0)
        for number, mode in enumerate(("bilinear", "nearest", "bicubic"))
        for shift, padding in enumerate(paddings)
    ]


CASES: dict[str, tuple[Function, TensorSpec]] = {
    "alpha": (lambda x: torch.add(x, x.relu(), alpha=0.2), IMAGE),
    "alpha_of_a_difference": (lambda x: torch.sub(x, x.relu(), alpha=2), IMAGE),
    "alpha_of_integers": (lambda x: torch.add(x, x, alpha=3), WORDS),
    "alpha_of_a_number": (lambda x: torch.add(x, 2, alpha=3), IMAGE),
    "reversed": (lambda x: (1.5 - x, 2 / (x.abs() + 1)), IMAGE),
    "divisor": (lambda x: F.avg_pool2d(x, 3, 1, 1, divisor_override=1), IMAGE),
    "divisor_ceil": (
        lambda x: F.avg_pool2d(x, (3, 2), 2, 1, True, False, divisor_override=8),
        IMAGE,
    ),
    "divisor_of_three_dimensions": (
        lambda x: F.avg_pool2d(x, 2, divisor_override=3),
        TensorSpec((4, 6, 8), "float32"),
    ),
    "selu": (F.selu, IMAGE),
    "celu": (lambda x: F.celu(x, 0.7), IMAGE),
    "elu": (lambda x: F.elu(x, 0.3), IMAGE),
    "bytes_and_a_half": (lambda x: (x >= 127.5, x < 0.5, x == 3.0), BYTES),
    "half_of_integers": (lambda x: (x / 2, x * 0.5, x + 0.5, x - 1.5), WORDS),
    "rounded_quotients": (
        lambda x: (
            torch.div(x, 3, rounding_mode="floor"),
            torch.div(x, 3, rounding_mode="trunc"),
            torch.div(x, -3, rounding_mode="trunc"),
            x // 4,
            x % 5,
        ),
        SHORTS,
    ),
    "rounded_quotients_of_floats": (
        lambda x: (
            torch.div(x, 0.75, rounding_mode="floor"),
            torch.div(x, 0.75, rounding_mode="trunc"),
            x // 0.5,
        ),
        IMAGE,
    ),
    "quotients_of_bytes": (lambda x: (x // 7, x % 7, torch.div(x, 2.5)), BYTES),
    "bytes_as_fractions": (lambda x: x / 255, BYTES),
    "bytes_wrap": (lambda x: (x + 200, x * 3, 255 - x), BYTES),
    "numbers_no_byte_is": (lambda x: (x > -1, x > 300, x == -1, x + -1, x * 300), BYTES),
    "stride_left_out": (
        lambda x: (F.max_pool2d(x, 2), F.max_pool2d(x, (1, 3), None, (0, 1)), F.avg_pool2d(x, 2)),
        IMAGE,
    ),
    "circular_padding": (lambda x: F.pad(x, (1, 2, 0, 3), mode="circular"), IMAGE),
    "running_sums": (lambda x: (x.cumsum(1), x.cumsum(-1), x.cumprod(0)), SHORTS),
    "slices_from_the_end": (
        lambda x: (x[:, -3:-1], x[..., -9:3], x[:, :, -4::2], x[:, 1:99], x[..., :-2:3]),
        IMAGE,
    ),
    "bilinear_to_a_line": (
        lambda x: F.interpolate(x, size=(1, 9), mode="bilinear", align_corners=True),
        IMAGE,
    ),
    "bytes_and_words": (lambda x: x + x.long() * 1000, BYTES),
    "places": (lambda x: torch.arange(5) * 0.5 + x, WORDS),
    "argmax_of_bytes": (lambda x: (x.argmax(1), (255 - x).argmin(1)), BYTES),
    "argmax_of_words": (lambda x: (x.argmax(1), x.argmin(0, keepdim=True), x.argmax()), WORDS),
    "extremes_of_shorts": (lambda x: (x.max(1), x.min(0), x.amax(), x.amin(1)), SHORTS),
    "clamp_of_integers": (lambda x: (x.clamp(1), x.clamp(max=2), x.clamp(-1, 1)), WORDS),
    "clamp_of_integers_to_halves": (lambda x: x.clamp(0.5, 1.5), WORDS),
    "clamp": (lambda x: (x.clamp(-0.5, 0.25), x.clamp(min=0.1), x.clamp(max=0.1)), IMAGE),
    "clamp_to_tensors": (lambda x: x.clamp(-x.abs() / 2, x.abs() / 4), IMAGE),
    "booleans": (lambda x: (x & ~x, x | x, x ^ True, x * x, x + x), FLAGS),
    "booleans_as_numbers": (lambda x: (x * 3, x + 1, x * 0.5, x.float() - 1), FLAGS),
    "comparison_of_booleans": (lambda x: (x == x.flip(0), x > x.flip(0)), FLAGS),
    "product_of_comparisons": (lambda x: x * ((x > 0) * (x < 1)), IMAGE),
    "largest_of_two": (lambda x: (torch.maximum(x, -x), torch.minimum(x, x * x)), IMAGE),
    "largest_of_booleans": (lambda x: torch.maximum(x, x.flip(0)), FLAGS),
    "masked_maximum": (
        lambda x: (
            x.masked_fill(x < 0, -INF).amax(1),
            x.masked_fill(x < 0, -INF).max(1),
            x.masked_fill(x < 0, INF).amin((0, 2), keepdim=True),
            x.masked_fill(x < 0, LEAST).amax(1),
        ),
        TensorSpec((2, 3, 4), "float32"),
    ),
    "in_place": (in_place, IMAGE),
    "diagonals": (diagonals, IMAGE),
    "added_twice": (added_twice, IMAGE),
    "sampled": (sampled, IMAGE),
    "places_from_the_end": (
        lambda x: (x[:, [1, -1]], x[:, -1], x[[0, -1], [-2, 1]], x[..., -3], x[:, [[0], [-2]]]),
        IMAGE,
    ),
    "computed_places": (
        lambda x: torch.arange(24.0).reshape(4, 6)[:, (x % 12) - 6],
        WORDS,
    ),
    "computed_pairs_of_places": (
        lambda x: torch.arange(24.0).reshape(4, 6)[(x % 8) - 4, (x % 12) - 6],
        WORDS,
    ),
    "data": (lambda x: x * x.data.gt(0), IMAGE),
    "unfolded": (lambda x: F.unfold(x, 3, padding=1, stride=2), IMAGE),
    "two_factors": (lambda x: F.interpolate(x, scale_factor=(1.7, 0.6), mode="bilinear"), IMAGE),
    "two_factors_nearest": (lambda x: F.interpolate(x, scale_factor=(1.7, 0.6)), IMAGE),
    "nearest_exact": (lambda x: F.interpolate(x, size=(9, 4), mode="nearest-exact"), IMAGE),
    "bicubic": (
        lambda x: [
            F.interpolate(x, size=(9, 4), mode="bicubic", align_corners=aligned)
            for aligned in (False, True)
        ],
        IMAGE,
    ),
    "antialias": (
        lambda x: [
            F.interpolate(x, size=(2, 11), mode=mode, antialias=True)
            for mode in ("bilinear", "bicubic")
        ],
        IMAGE,
    ),
    "antialias_by_much": (
        lambda x: F.interpolate(x, scale_factor=0.07, mode="bilinear", antialias=True),
        TensorSpec((1, 2, 30, 45), "float32"),
    ),
    "adaptive_averages": (
        lambda x: (
            F.adaptive_avg_pool2d(x, (3, 4)),
            F.adaptive_avg_pool2d(x, (1, 4)),
            F.adaptive_avg_pool2d(x, (5, 9)),
            F.adaptive_avg_pool2d(x, 1),
        ),
        IMAGE,
    ),
    "adaptive_maxima": (
        lambda x: (F.adaptive_max_pool2d(x, (3, 4)), nn.AdaptiveMaxPool2d((None, 9))(x)),
        IMAGE,
    ),
    "maximum_of_all": (lambda x: (x.amax(), x.amin(), x.max(), x.min()), IMAGE),
}


SUMS = {"adaptive_averages", "antialias", "antialias_by_much", "bicubic", "sampled", "two_factors"}
"""What adds weighted values up: whether the largest there are overflow depends on the order."""


def inputs_like(spec: TensorSpec) -> list[np.ndarray]:
    """Return noise, and what cameras, masks and padding give."""
    found = [random_inputs([spec])[0]]
    dtype = np.dtype(spec.dtype)
    constants: tuple[Any, ...] = (0, 1)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        constants = (0, 1, limits.max, limits.min)
        rng = np.random.default_rng(1)
        found.append(rng.integers(limits.min, limits.max, spec.shape, dtype, endpoint=True))
    elif dtype.kind == "f":
        constants = (0, 1, -1, 255, LEAST)
        found.append(np.random.default_rng(1).uniform(0, 255, spec.shape).astype(dtype))
    return [*found, *(np.full(spec.shape, each, dtype) for each in constants)]


@pytest.fixture(scope="module")
def device() -> Iterator[Device]:
    with LocalDevice(threads=1) as opened:
        yield opened


@pytest.mark.parametrize("name", CASES)
def test_right(name: str, device: Device, tmp_path: Path) -> None:
    function, spec = CASES[name]
    target = targets.load("host")
    program = trace(Network(name, Applied(function).eval(), (spec,)))
    lowered = passes.lower(frontend.import_program(program), target)
    path = tmp_path / "model.so"
    build_library(lowered, None, target, path)
    for x in inputs_like(spec):
        if name in SUMS and x.min() == np.float32(LEAST):
            continue
        with np.errstate(all="ignore"):
            expected = program.run([x])
        actual, _ = device.run(path, [x], keep=True)
        for number, (found, wanted) in enumerate(zip(actual, expected, strict=True)):
            assert found.dtype == wanted.dtype, number
            error = relative_error(found, wanted)
            if name in SUMS and np.ptp(x) == 0:  # there is no spread
                error = float(np.abs(found - wanted).max() / max(np.abs(wanted).max(), 1))
            assert error <= TOLERANCE, (number, x.ravel()[:4], found, wanted)
