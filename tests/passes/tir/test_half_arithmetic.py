"""Arithmetic between casts becomes that of float16 where nothing is rounded more often."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm import te, tirx
from tvm.s_tir import Schedule

from tvm_eff.passes.attributes import HALF_SUMS
from tvm_eff.passes.tir.half_arithmetic import compute_in_half

COUNT = 4096
Body = Callable[[Any, Any, Any], Any]


def module(body: Body, *, mark: bool = True) -> tvm.IRModule:
    """Return a function of two tensors of float16 and one of float32, marked by a schedule."""
    a, b = (te.placeholder((COUNT,), "float16", name=name) for name in "ab")
    c = te.placeholder((COUNT,), "float32", name="c")
    result = te.compute((COUNT,), lambda i: body(a[i], b[i], c[i]), name="result")
    sch = Schedule(te.create_prim_func([a, b, c, result]))
    if mark:
        sch.annotate(sch.get_sblock("result"), HALF_SUMS, 1)
    return sch.mod


def wide(value: Any) -> Any:
    return tirx.Cast("float32", value)


def half(value: Any) -> Any:
    return tirx.Cast("float16", value)


def limited(value: Any) -> Any:
    return tirx.max(tirx.min(value, tirx.const(6.0)), tirx.const(0.0))


# What is rounded as often as before gives the same numbers.
EXACT: dict[str, Body] = {
    "sum": lambda a, b, c: half(wide(a) + wide(b)),
    "difference": lambda a, b, c: half(wide(a) - wide(b)),
    "product": lambda a, b, c: half(wide(a) * wide(b)),
    "residual": lambda a, b, c: half(limited(wide(a) + wide(b))),
    "clip": lambda a, b, c: half(limited(wide(a))),
    "of_limits": lambda a, b, c: half(limited(wide(a)) + wide(b)),
}
KEPT: dict[str, Body] = {
    "a_sum_with_float32": lambda a, b, c: half(wide(a) + c),
    "two_roundings": lambda a, b, c: half(wide(a) * wide(b) + wide(b) * wide(b)),
    "a_constant_that_is_none_of_float16": lambda a, b, c: half(wide(a) * tirx.const(0.1)),
    "a_constant_beyond_float16": lambda a, b, c: half(wide(a) + tirx.const(1e6)),
    "a_function": lambda a, b, c: half(tirx.exp(wide(a))),
}


def computed(mod: tvm.IRModule) -> np.ndarray:
    rng = np.random.default_rng(0)
    given = [(4 * rng.standard_normal(COUNT)).astype("float16") for _ in range(2)]
    inputs = [*given, rng.standard_normal(COUNT).astype("float32")]
    found = tvm.runtime.tensor(np.zeros(COUNT, "float16"))
    tvm.compile(mod, target="llvm")["main"](*map(tvm.runtime.tensor, inputs), found)
    return np.asarray(found.numpy())


@pytest.mark.parametrize("name", EXACT)
def test_the_same_numbers_in_float16(name: str) -> None:
    mod = module(EXACT[name])
    narrow = compute_in_half(mod)
    assert "Cast(" not in str(narrow["main"].script())
    np.testing.assert_array_equal(computed(narrow), computed(mod))


@pytest.mark.parametrize("name", KEPT)
def test_what_would_be_rounded_more_often_is_kept(name: str) -> None:
    mod = module(KEPT[name])
    assert tvm_ffi.structural_equal(compute_in_half(mod), mod)


def test_limits_of_float32_are_found_in_float16() -> None:
    mod = module(lambda a, b, c: half(limited(c)))
    narrow = compute_in_half(mod)
    assert "T.float16(6.0)" in str(narrow["main"].script())
    np.testing.assert_array_equal(computed(narrow), computed(mod))


def test_a_multiply_add_is_rounded_once() -> None:
    narrow = compute_in_half(module(lambda a, b, c: half(wide(a) + wide(b) * wide(b))))
    assert "Cast(" not in str(narrow["main"].script())


def test_unmarked_functions_stay() -> None:
    mod = module(EXACT["sum"], mark=False)
    assert compute_in_half(mod).same_as(mod)
