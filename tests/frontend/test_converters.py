"""Each converter of ours on generated arguments, against PyTorch.

Some calls of each, the same every time; `benchmarks/operator_calls.py` is the long run.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import tensor_calls  # noqa: F401
from converter_calls import CALLS, Drawn
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import nn

from tvm_eff import frontend
from tvm_eff.deploy.proof import prove
from tvm_eff.frontend import half, quantized
from tvm_eff.frontend.operators import CONVERTERS
from tvm_eff.models import Network, trace

TOGETHER = 16
"""How many converters are compiled together, one call of each."""

EXAMPLES = 3

NAMES = sorted(CALLS)


class Several(nn.Module):
    """Calls side by side."""

    def __init__(self, drawn: Sequence[Drawn]) -> None:
        super().__init__()
        self.drawn = list(drawn)

    def forward(self, *tensors: object) -> list[object]:
        left = list(tensors)
        results: list[object] = []
        for each in self.drawn:
            result = each.call([left.pop(0) for _ in each.arrays])
            results += result if isinstance(result, list | tuple) else [result]
        return results


def check(drawn: Sequence[Drawn]) -> None:
    specs = tuple(spec for each in drawn for spec in each.specs)
    program = trace(Network("calls", Several(drawn).eval(), specs))
    core = frontend.decompose(program)
    frontend.import_program(program, core)
    arrays = [array for each in drawn for array in each.arrays]
    with np.errstate(all="ignore"):
        prove(program, core, {"what was generated": arrays})


def test_every_converter_is_called() -> None:
    # Those of quantized programs belong together: tests/quantize. What rounds for a layer in
    # float16 is no operator of PyTorch's: tests/passes/relax/test_half_layers.py.
    alone = CONVERTERS.keys() - quantized.CONVERTERS.keys() - half.CONVERTERS.keys()
    assert sorted(alone - CALLS.keys()) == []


@pytest.mark.parametrize("first", range(0, len(NAMES), TOGETHER))
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    # What fails is named by the proof; fewer converters at once would take minutes to find.
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_generated_calls(first: int, data: st.DataObject) -> None:
    names = NAMES[first : first + TOGETHER]
    check([data.draw(CALLS[name], label=name) for name in names])


UNKNOWN = np.array([[1, np.nan, 3], [np.inf, 2, np.nan], [0, -np.inf, 2]], "float32")
ROW = np.array([[np.nan, 1, 2.5]], "float32")


def test_nan_is_the_largest_and_the_smallest() -> None:
    along = ("amax", "amin", "argmax", "argmin")
    check(
        [
            *(Drawn(f"{name}.default", (UNKNOWN, axis), {}) for name in along for axis in (0, 1)),
            *(Drawn(f"{name}.dim", (UNKNOWN, 1, True), {}) for name in ("max", "min", "any")),
            *(Drawn(f"{name}.default", (UNKNOWN, ROW), {}) for name in ("maximum", "minimum")),
            Drawn("clamp.Tensor", (UNKNOWN, ROW, None), {}),
        ]
    )


def test_nan_differs_from_everything() -> None:
    check(
        [
            Drawn("ne.Scalar", (UNKNOWN, -1), {}),
            Drawn("ne.Tensor", (UNKNOWN, ROW), {}),
            Drawn("eq.Tensor", (UNKNOWN, UNKNOWN), {}),
        ]
    )
