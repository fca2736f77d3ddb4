"""The measured peak of multiply-adds: what no kernel can be faster than."""

from __future__ import annotations

import pytest
from kernels import HOST, small_convolution, tasks_of
from torch import nn

from tvm_eff.device import LocalDevice
from tvm_eff.tune.roofline import RooflineBound, roofline_bound


def test_measured_peak_is_plausible() -> None:
    with LocalDevice(threads=HOST.hardware.cores) as device:
        bound = roofline_bound(HOST, device)
    # Between an instruction each ten cycles at 100 MHz, and four a cycle at 10 GHz.
    assert 1e7 < bound.rate / HOST.hardware.cores < 4e10


def test_bound_counts_vector_multiply_adds() -> None:
    task = small_convolution()
    # 16 channels at 6 x 6 positions, each of 3 x 3 x 8 products.
    assert RooflineBound(lanes=4, rate=1.0)(task) == 16 * 36 * 72 / 4
    assert RooflineBound(lanes=8, rate=1e9)(task) == pytest.approx(16 * 36 * 72 / 8e9)


def test_kernel_that_multiplies_nothing_has_no_bound() -> None:
    (task,) = tasks_of(nn.ReLU(), (1, 2, 3))
    assert RooflineBound(lanes=4, rate=1.0)(task) == 0
