"""An output is judged by its channels, and by how far PyTorch itself is off."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import tvm_eff
from tvm_eff.deploy.accuracy import Case
from tvm_eff.deploy.validate import case_of, compare
from tvm_eff.errors import ValidationError
from tvm_eff.models import Network, trace
from tvm_eff.tensors import TOLERANCE, TensorSpec, relative_error, validation_inputs


def boxes_and_scores(layout: str) -> np.ndarray:
    """100 boxes of x, y, width and height in pixels, and a score each."""
    rng = np.random.default_rng(0)
    found = np.concatenate([rng.uniform(0, 4000, (1, 100, 4)), rng.random((1, 100, 1))], 2)
    return found if layout == "rows" else found.transpose(0, 2, 1).copy()


def case(exact: np.ndarray) -> Case:
    return Case([], [exact.astype("float32")], [exact])


@pytest.mark.parametrize(("layout", "axis"), [("rows", 2), ("columns", 1)])
def test_scores_beside_boxes(layout: str, axis: int) -> None:
    exact = boxes_and_scores(layout)
    wrong = exact.astype("float32")
    wrong[(slice(None),) * axis + (4,)] *= 1.05
    assert np.abs(wrong - exact).max() < 2 * TOLERANCE * np.ptp(exact), "it is hidden"
    message = rf"output 0 is wrong: channel 4 of dimension {axis} is off by 5\..e-02 of its own"
    with pytest.raises(ValidationError, match=message):
        compare([wrong], case(exact), 2 * TOLERANCE, "it")
    assert compare([exact.astype("float32")], case(exact), TOLERANCE, "it") == 0


def test_a_channel_of_an_image_and_of_a_batch() -> None:
    exact = np.random.default_rng(1).standard_normal((1, 3, 8, 8))
    exact[:, 1] *= 1e-4
    wrong = exact.astype("float32")
    wrong[:, 1] *= 1.01
    with pytest.raises(ValidationError, match="channel 1 of dimension 1"):
        compare([wrong], case(exact), TOLERANCE, "it")
    batch, wrong_batch = (each.reshape(3, 64).T.copy() for each in (exact, wrong))
    with pytest.raises(ValidationError, match="channel 1 of dimension 1"):
        compare([wrong_batch], case(batch), TOLERANCE, "it")


def test_a_map_that_pytorch_itself_cannot_tell_apart() -> None:
    """Depths near 20 that differ by a thousandth: one rounding is more than the tolerance."""
    exact = 20 + 1e-3 * np.random.default_rng(2).random((1, 1, 16, 16))
    near = np.nextafter(exact.astype("float32"), np.float32(100))
    assert np.abs(near - exact).max() > 100 * TOLERANCE * np.ptp(exact)
    assert compare([near], case(exact), TOLERANCE, "it") < TOLERANCE
    with pytest.raises(ValidationError, match="its largest error"):
        compare([near + np.float32(1e-4)], case(exact), TOLERANCE, "it")


def test_what_chance_makes_of_a_few_values() -> None:
    """The difference of two large sums, where PyTorch is near the exact result by chance."""

    class Difference(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x * 1.7).sum(1, keepdim=True) - (x * 1.6).sum(1, keepdim=True) - x.mean() * 12

    program = trace(Network("it", Difference().eval(), (TensorSpec((1, 128), "float32"),)))
    judged = case_of(program, [(1 + np.arange(128.0)[None] % 5).astype("float32")])
    judged = replace(judged, exact=[each.astype("float64") for each in judged.expected])
    off = judged.expected[0] + np.float32(4e-5)
    assert compare([off], judged, TOLERANCE, "it") > TOLERANCE
    for wrong, known in ((5, judged), (4e-5, replace(judged, by_chance=None))):
        with pytest.raises(ValidationError, match="its largest error"):
            compare([judged.expected[0] + np.float32(wrong)], known, TOLERANCE, "it")


def test_what_pytorch_is_off_by_excuses_a_few_times_that() -> None:
    exact = np.random.default_rng(6).standard_normal((1, 1, 16, 16))
    pytorchs = (exact + 5e-5).astype("float32")
    ours = (exact - 8e-5).astype("float32")
    with pytest.raises(ValidationError, match="its largest error"):
        compare([ours], Case([], [pytorchs]), TOLERANCE, "it")
    judged = Case([], [pytorchs], [exact])
    assert compare([ours], judged, TOLERANCE, "it") > TOLERANCE
    # A bundle keeps how far PyTorch was off, not the exact result.
    kept = Case([], [pytorchs], recorded_errors=judged.reference_errors())
    assert compare([ours], kept, TOLERANCE, "it") > TOLERANCE
    with pytest.raises(ValidationError, match="its largest error"):
        compare([ours - np.float32(1e-4)], kept, TOLERANCE, "it")


def test_a_channel_that_is_nearly_always_cut_off() -> None:
    """What is left of it is a difference of large numbers, where transforms cost a few bits."""
    exact = np.random.default_rng(3).standard_normal((1, 2, 16, 16))
    exact[:, 1] = np.maximum(exact[:, 1] - exact[:, 1].max() + 1e-6, 0)
    rounded = Case([], [exact.astype("float32")], [exact])
    moved = exact.astype("float32")
    moved[0, 1].flat[0] += 1e-7
    with pytest.raises(ValidationError, match="channel 1"):
        compare([moved], rounded, TOLERANCE, "it")
    pytorchs = exact.astype("float32")
    pytorchs[0, 1].flat[5] += 1e-8
    assert compare([moved], Case([], [pytorchs], [exact]), TOLERANCE, "it") < TOLERANCE


def test_half_precision_has_more_of_a_channel() -> None:
    exact = np.random.default_rng(4).standard_normal((1, 3, 8, 8))
    half = exact.astype("float16").astype("float32")
    with pytest.raises(ValidationError):
        compare([half], case(exact), TOLERANCE, "it")
    compare([half], case(exact), 8e-3, "it", dtype="float16")
    half[:, 2] *= 1.2
    with pytest.raises(ValidationError, match="channel 2"):
        compare([half], case(exact), 1.0, "it", dtype="float16")


@pytest.mark.parametrize("left", [0, 1, 12, 40])
def test_half_precision_of_a_channel_that_is_nearly_always_cut_off(left: int) -> None:
    """A difference of sums of 100 is off by their rounding, however few values a ReLU leaves."""
    exact = np.random.default_rng(5).standard_normal((1, 3, 8, 8))
    exact[:, 1] = 0
    exact[0, 1].flat[:left] = np.linspace(1e-3, 2e-3, left)
    half = exact.astype("float32")
    half[0, 1].flat[3] += 1e-3
    if left < 16:
        assert compare([half], case(exact), 8e-3, "it", dtype="float16") < 1e-3
        return
    with pytest.raises(ValidationError, match="channel 1"):
        compare([half], case(exact), 8e-3, "it", dtype="float16")


def test_pytorchs_own_error() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 5)).eval()
    program = trace(Network("net", module, (TensorSpec((1, 3, 8, 8), "float32"),)))
    x = np.random.default_rng(5).standard_normal((1, 3, 8, 8)).astype("float32")
    found = case_of(program, [x])
    with torch.no_grad():
        wide = module.double()(torch.from_numpy(x).double()).numpy()
    assert found.exact is not None
    np.testing.assert_array_equal(found.exact[0], wide)
    (own,) = found.reference_errors()
    assert 0 < own < 1e-6
    assert np.abs(found.expected[0] - wide).max() == pytest.approx(own * np.ptp(wide))


class Written(nn.Module):
    """Constants, casts, integers and writing in place."""

    def forward(self, x: torch.Tensor, place: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = x.clone()
        y += torch.full((4,), 0.1, dtype=torch.float32)
        return y.to(torch.float32) / 3 + torch.arange(4.0), place + 1


def test_an_input_is_not_changed_and_integers_stay() -> None:
    specs = (TensorSpec((2, 4), "float32"), TensorSpec((2,), "int64"))
    program = trace(Network("net", Written(), specs))
    x = np.ones((2, 4), "float32")
    exact = program.run_in_double_precision([x, np.arange(2)])
    assert exact is not None
    assert [str(each.dtype) for each in exact] == ["float64", "int64"]
    np.testing.assert_allclose(exact[0], (1 + 0.1) / 3 + np.arange(4) * np.ones((2, 1)), rtol=1e-15)
    np.testing.assert_array_equal(x, 1)


def test_bytes_that_are_divided() -> None:
    class Camera(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, frame: torch.Tensor) -> torch.Tensor:
            return self.conv(frame / 255)

    program = trace(Network("net", Camera().eval(), (TensorSpec((1, 3, 4, 4), "uint8"),)))
    frame = np.arange(48, dtype="uint8").reshape(1, 3, 4, 4)
    exact = program.run_in_double_precision([frame])
    assert exact is not None
    np.testing.assert_allclose(exact[0], program.run([frame])[0], rtol=1e-5, atol=1e-6)
    assert torch.get_default_dtype() == torch.float32


class Bits(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(torch.int32) & 0xFFFF


def test_a_network_without_double_precision() -> None:
    program = trace(Network("net", Bits(), (TensorSpec((2, 4), "float32"),)))
    assert program.run_in_double_precision([np.ones((2, 4), "float32")]) is None


class Cells(nn.Module):
    """A recurrent layer's last outputs: PyTorch's own operator, or one written out."""

    def __init__(self, written_out: bool) -> None:
        super().__init__()
        self.layer, self.written_out = nn.LSTM(4, 6, batch_first=True), written_out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.written_out:
            return self.layer(x)[0][:, -1]
        input_weight, state_weight, input_bias, state_bias = self.layer.all_weights[0]
        state, cell = torch.zeros(len(x), 6), torch.zeros(len(x), 6)
        for step in x.unbind(1):
            seen = nn.functional.linear(step, input_weight, input_bias)
            kept = nn.functional.linear(state, state_weight, state_bias)
            enter, forget, new, leave = (seen + kept).chunk(4, 1)
            cell = forget.sigmoid() * cell + enter.sigmoid() * new.tanh()
            state = leave.sigmoid() * cell.tanh()
        return state


def test_rounding_within_a_recurrent_layer() -> None:
    """Its cells cancel: what is left is their rounding, whichever way PyTorch's own fell."""
    spec = TensorSpec((1, 5, 4), "float32")
    inputs = validation_inputs([spec], 2)
    for written_out in (False, True):
        torch.manual_seed(83)
        program = trace(Network("net", Cells(written_out).eval(), (spec,)))
        expected = program.run(inputs)
        (exact,) = program.run_in_double_precision(inputs) or []
        (moved,) = program.moved_by_chance(inputs, expected)
        assert moved > max(5e-4, relative_error(expected[0], exact))


def test_a_comparison_that_falls_the_other_way_excuses_nothing() -> None:
    expected, exact = np.zeros((4, 4), "float32"), np.zeros((4, 4))
    expected[0, 0], exact[0, 0], exact[1, 1] = 1, 1, 1
    judged = Case([], [expected], [exact])
    assert judged.reference_errors() == (1.0,)
    with pytest.raises(ValidationError, match=r"where an error of 1\.0e-03 is allowed"):
        compare([expected + np.float32(0.5)], judged, TOLERANCE, "it")


def test_a_bundle_of_depths(tmp_path: Path) -> None:
    class Depth(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 1, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x) * 1e-4 + 20

    made = tvm_eff.compile(
        Depth().eval(),
        torch.rand(1, 3, 16, 16),
        output=tmp_path,
        logs=tmp_path / "logs",
        measure=False,
    )
    (own,) = made.manifest.validation.reference_errors
    assert 0 < own < TOLERANCE
    assert made.error <= made.manifest.validation.tolerance == TOLERANCE
    assert tvm_eff.load(made.folder).check() <= TOLERANCE
    assert made.benchmark(repeat=1).largest_error <= TOLERANCE
