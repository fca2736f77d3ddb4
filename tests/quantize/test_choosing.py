"""The precision of each layer: what is taken, what is given up, and by which measure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from quantized_networks import HOST, Case, Joined, Wide, imported, traced
from torch import nn

from tvm_eff import quantize, targets
from tvm_eff.deploy.validate import case_of, compare
from tvm_eff.errors import ModelError, UsageError, ValidationError
from tvm_eff.models import Program, Sample
from tvm_eff.quantize import Choice, Quantized
from tvm_eff.tensors import TOLERANCE, relative_error

SHAPE = (1, 3, 12, 12)
CLASSES = Wide.CLASSES


def data(count: int = 8, labels: np.ndarray | None = None) -> list[Sample]:
    rng = np.random.default_rng(0)
    return [
        Sample(
            f"sample {n}",
            (rng.normal(size=SHAPE).astype("float32"),),
            None if labels is None else labels[n : n + 1],
        )
        for n in range(count)
    ]


def choose(
    program: Program,
    samples: list[Sample],
    max_drop: float,
    metric: quantize.Metric | None = None,
) -> tuple[Quantized, Choice]:
    return quantize.quantize_where_allowed(
        program, iter(samples), "data", "uint8", max_drop, metric, quantize.cost_model(HOST)
    )


@pytest.fixture(scope="module")
def program() -> Program:
    return traced(Wide(), SHAPE)


@pytest.fixture(scope="module")
def classifier() -> Program:
    return traced(Wide(classes=True), SHAPE)


def precisions(choice: Choice) -> dict[str, str]:
    return {each.layer.split("'")[1]: each.precision for each in choice.layers}


def test_the_sensitive_layer_stays(program: Program) -> None:
    found, choice = choose(program, data(), 0.02)
    assert precisions(choice) == {"first": "int8", "reads": "float32", "last": "int8"}
    assert found.in_float32 == ("conv2d.default in 'reads'",)
    noise = {each.layer.split("'")[1]: each.sqnr_db for each in choice.layers}
    assert noise["reads"] < 25 < min(noise["first"], noise["last"])
    assert found.loss.sqnr_db > 34  # noise of 2%
    assert choice.before - choice.after == pytest.approx(10 ** (-found.loss.sqnr_db / 20))
    for each in choice.layers:
        is_int8 = each.precision == "int8"
        assert (each.cost_after < each.cost_before) == is_int8


@pytest.mark.parametrize(("max_drop", "precision"), [(0.0, "float32"), (1.0, "int8")])
def test_all_or_nothing(program: Program, max_drop: float, precision: str) -> None:
    found, choice = choose(program, data(), max_drop)
    assert {*precisions(choice).values()} == {precision}
    assert found.integers == (precision == "int8")
    if not found.integers:
        assert found.program is program


def test_what_is_converted_is_what_was_simulated(program: Program) -> None:
    """Alone in integers, a layer makes the noise that was measured of it."""
    observed = quantize.observe(program, iter(data()), "data", "uint8")
    _, choice = choose(program, data(), 1.0)
    for node, layer in zip(observed.layers, choice.layers, strict=True):
        alone = quantize.convert(observed, {node.name})
        assert alone.loss.sqnr_db == pytest.approx(layer.sqnr_db, abs=0.1)


def test_classes_are_not_to_change(classifier: Program) -> None:
    _, choice = choose(classifier, data(16), 0.0)
    assert choice.criterion == "the share of float32's classes"
    assert (choice.before, choice.after) == (1.0, 1.0)
    assert precisions(choice)["reads"] == "float32"
    _, choice = choose(classifier, data(16), 0.9)
    assert choice.before - 0.9 <= choice.after < 1
    assert precisions(choice)["reads"] == "int8"


def test_labels_are_to_stay_right(classifier: Program) -> None:
    samples = data(16)
    right = [classifier.run(each.inputs)[0].argmax(1)[0] for each in samples]
    labels = np.where(np.arange(16) < 12, right, (np.array(right) + 1) % CLASSES)
    _, choice = choose(classifier, data(16, labels), 0.0)
    assert choice.criterion == "the share of right classes"
    assert choice.before == 0.75 <= choice.after


def test_own_metric(program: Program) -> None:
    seen: list[tuple[tuple[int, ...], Any]] = []

    def largest(outputs: np.ndarray, labels: np.ndarray | None) -> float:
        seen.append((outputs.shape, labels))
        return float(outputs.max())

    _, choice = choose(program, data(), 0.001, largest)
    assert choice.criterion == "the metric largest"
    assert seen[0] == ((8, CLASSES, 12, 12), None)
    assert choice.before - choice.after <= 0.001


def failing(outputs: object, labels: object) -> float:
    raise ValueError("no labels")


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (failing, r"^failing failed: ValueError: no labels \(.*test_choosing\.py"),
        (lambda outputs, labels: "good", "returned 'good'; return one number"),
        (lambda outputs, labels: float("nan"), "returned nan; return one number"),
        ("metric.py", "'metric.py' is no metric; write FILE.py:FUNCTION"),
    ],
)
def test_wrong_metrics_are_refused(
    program: Program, metric: str | Callable[[Any, Any], Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        choose(program, data(2), 0.01, metric)


def test_missing_metric_is_named(program: Program, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no file"):
        choose(program, data(2), 0.01, f"{tmp_path}/metric.py:score")


def test_wrong_labels_are_refused(program: Program, classifier: Program) -> None:
    labels = np.array([0, 1, CLASSES, 2])
    with pytest.raises(UsageError, match=f"label {CLASSES} of the calibration data is none of"):
        choose(classifier, data(4, labels), 0.01)
    with pytest.raises(UsageError, match="has labels, and the first output of the model is no row"):
        choose(program, data(4, np.arange(4)), 0.01)
    mixed = [*data(2, np.arange(2)), *data(1)]
    with pytest.raises(UsageError, match="has no label, and others of the calibration data"):
        choose(classifier, mixed, 0.01)
    with pytest.raises(UsageError, match="all 4 labels are of one class, 2"):
        choose(classifier, data(4, np.full(4, 2)), 0.01)


def test_branches_of_one_scale() -> None:
    """A layer in float32 reads what its neighbour reads as bytes, and joins bytes again."""
    original = traced(Joined(), (1, 8, 6, 6))
    observed = quantize.observe(original, None, None, "uint8")
    names = [each.name for each in observed.layers]
    for kept in names[:2]:  # the two branches
        found = quantize.convert(observed, {*names} - {kept})
        case = imported(found.program, original, found.in_float32)
        assert len(found.in_float32) == 1
        _require_right(case, 0)


def _require_right(case: Case, seed: int) -> float:
    inputs = case.inputs(seed)
    return compare(case.run(inputs), case_of(case.quantized, inputs), TOLERANCE, "net")


def test_ties_between_layers_are_no_fault() -> None:
    """Of 32,768 values in float32 that are rounded, some lie between two integers."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1))
    original = traced(model, (1, 8, 64, 64))
    observed = quantize.observe(original, None, None, "uint8")
    first, last = [each.name for each in observed.layers]
    mixed = imported(quantize.convert(observed, {last}).program, original)
    inputs = mixed.inputs(0)
    wanted = mixed.quantized.run(inputs)
    (moved,) = mixed.quantized.moved_by_chance(inputs, wanted)
    assert TOLERANCE < moved < relative_error(wanted[0], original.run(inputs)[0])
    _require_right(mixed, 0)
    wrong = [wanted[0].copy()]
    wrong[0][0, 0, 0, 0] += 3 * moved * np.ptp(wanted[0])
    with pytest.raises(ValidationError, match="output 0 is wrong"):
        compare(wrong, case_of(mixed.quantized, inputs), TOLERANCE, "net")
    whole = imported(quantize.convert(observed, {first, last}).program, original)
    assert whole.quantized.moved_by_chance(inputs, whole.quantized.run(inputs)) == (0.0,)
    assert _require_right(whole, 0) == 0


@pytest.mark.parametrize(("name", "rate"), [("rasp5", 4.0), ("rasp4", 2.0), ("rasp3-armv7", 2.0)])
def test_what_a_processor_charges(name: str, rate: float) -> None:
    assert quantize.cost_model(targets.load(name)).rate == rate


def test_winograd_s_algorithm_is_counted_without_dot_products() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(8, 32, 1), nn.Conv2d(32, 76, 3), nn.Conv2d(76, 16, 3)]
    program = traced(nn.Sequential(*layers), (1, 8, 12, 12))
    drawn = np.random.default_rng(0).normal(size=(1, 8, 12, 12))
    samples = [Sample("one", (drawn.astype("float32"),))]
    model = quantize.cost_model(targets.load("rasp4"))
    _, choice = quantize.quantize_where_allowed(
        program, iter(samples), "data", "int8", 1e9, None, model
    )
    # Sums of 76 channels would exceed 32 bits, and pairs of bytes are no better than float32.
    assert [each.precision for each in choice.layers] == ["int8", "int8", "float32"]
    pairs, by_winograd, _ = (each.cost_after / each.cost_before for each in choice.layers)
    assert pairs < 0.5
    assert 0.85 < by_winograd < 0.95
