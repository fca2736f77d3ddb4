"""float16 among the precisions of a layer, where the processor computes in it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from quantized_networks import Wide, traced
from torch import nn

from tvm_eff import quantize, targets
from tvm_eff.errors import ModelError
from tvm_eff.models import Program, Sample
from tvm_eff.quantize import Choice, LayerChoice, Quantized

SHAPE = (1, 3, 12, 12)
A76 = quantize.cost_model(targets.load("rasp5"))


def data(count: int = 8, scale: float = 1.0) -> list[Sample]:
    rng = np.random.default_rng(0)
    drawn = [(scale * rng.normal(size=SHAPE)).astype("float32") for _ in range(count)]
    return [Sample(f"sample {n}", (each,)) for n, each in enumerate(drawn)]


def choose(
    program: Program,
    samples: list[Sample],
    max_drop: float,
    model: quantize.CostModel = A76,
) -> tuple[Quantized, Choice]:
    return quantize.quantize_where_allowed(
        program, iter(samples), "data", "int8", max_drop, None, model
    )


def by_module(choice: Choice) -> dict[str, LayerChoice]:
    return {each.layer.split("'")[1]: each for each in choice.layers}


def precisions(choice: Choice) -> list[str]:
    return [each.precision for each in choice.layers]


@pytest.fixture(scope="module")
def program() -> Program:
    return traced(Wide(), SHAPE)


def in_sixteenths(model: nn.Module) -> nn.Module:
    """Give a network weights of few bits, which float16 holds exactly, and no bias."""
    with torch.no_grad():
        for each in model.parameters():
            each.copy_((16 * each).round() / 16 if each.dim() > 1 else torch.zeros_like(each))
    return model


def test_too_large_values_stay_in_float32() -> None:
    model = Wide()
    with torch.no_grad():
        model.first.weight *= 300
    found, choice = choose(traced(model, SHAPE), data(), 0.02)
    reads = by_module(choice)["reads"]
    assert (reads.precision, reads.sqnr_float16_db) == ("float32", None)
    assert reads.not_float16 is not None
    assert reads.not_float16.endswith(", and float16 ends at 65,504")
    assert "conv2d.default in 'reads'" in found.in_float32


def test_values_that_only_later_samples_have_count_too(program: Program) -> None:
    """Noise is measured on the first 16 samples, and what is too large on all."""
    samples = [*data(17), replace(data(1, 200.0)[0], name="a bright one")]
    _, choice = choose(program, samples, 0.02)
    assert by_module(choice)["reads"].not_float16 is not None
    _, choice = choose(program, samples[:17], 0.02)
    assert by_module(choice)["reads"].not_float16 is None


def test_nothing_may_be_lost(program: Program) -> None:
    found, choice = choose(program, data(), 0.0)
    assert precisions(choice) == ["float32"] * 3
    assert found.program is program


def test_what_loses_nothing_is_taken() -> None:
    rng = np.random.default_rng(0)
    whole = [
        Sample(f"sample {n}", (rng.integers(-4, 5, SHAPE).astype("float32"),)) for n in range(4)
    ]
    torch.manual_seed(0)
    model = in_sixteenths(nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1)))
    found, choice = choose(traced(model, SHAPE), whole, 0.0)
    assert precisions(choice) == ["float16"] * 2
    assert (choice.before, choice.after, found.integers) == (1.0, 1.0, False)
    assert found.loss.sqnr_db == pytest.approx(200)


@pytest.mark.parametrize("name", ["rasp4", "rasp3"])
def test_processors_without_it_keep_float32(program: Program, name: str) -> None:
    _, choice = choose(program, data(), 0.02, quantize.cost_model(targets.load(name)))
    assert precisions(choice) == ["int8", "float32", "int8"]
    assert {each.sqnr_float16_db for each in choice.layers} == {None}
    assert {each.not_float16 for each in choice.layers} == {None}


def test_the_layer_that_integers_hurt_is_in_float16(program: Program) -> None:
    found, choice = choose(program, data(), 0.02)
    assert precisions(choice) == ["int8", "float16", "int8"]
    assert (found.integers, found.in_float32) == (True, ())
    assert choice.before - choice.after == pytest.approx(10 ** (-found.loss.sqnr_db / 20))
    for each in choice.layers:
        assert each.sqnr_float16_db is not None
        assert each.sqnr_float16_db > each.sqnr_db + 20
    reads = by_module(choice)["reads"]
    assert reads.cost_after == pytest.approx(reads.cost_before / 2)


def test_a_loss_that_only_float16_is_within(program: Program) -> None:
    found, choice = choose(program, data(), 0.001)
    assert precisions(choice) == ["float16"] * 3
    assert not found.integers
    assert 60 < found.loss.sqnr_db < 80


def test_what_is_converted_is_what_was_simulated(program: Program) -> None:
    observed = quantize.observe(program, iter(data()), "data", "int8")
    _, choice = choose(program, data(), 1.0)
    assert precisions(choice) == ["int8"] * 3
    for node, layer in zip(observed.layers, choice.layers, strict=True):
        alone = quantize.convert(observed, frozenset(), {node.name})
        assert alone.loss.sqnr_db == pytest.approx(layer.sqnr_float16_db, abs=0.1)


def test_as_chosen_before(program: Program) -> None:
    found, choice = choose(program, data(), 0.02)
    chosen = [(each.layer, each.precision) for each in choice.layers]
    again = quantize.quantize_as_chosen(program, iter(data()), "data", "int8", chosen)
    inputs = data()[3].inputs
    assert np.array_equal(again.program.run(inputs)[0], found.program.run(inputs)[0])
    with pytest.raises(ModelError, match="has 3 layers that integers can compute, and 2 were"):
        quantize.quantize_as_chosen(program, iter(data()), "data", "int8", chosen[:2])


def test_winograd_s_algorithm_is_counted_in_both_precisions() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 32, 1), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU())
    program = traced(nn.Sequential(*model, nn.Conv2d(64, 8, 1)), SHAPE)
    _, choice = choose(program, data(), 0.002)
    assert precisions(choice) == ["float16"] * 3
    first, by_winograd, last = (each.cost_after / each.cost_before for each in choice.layers)
    assert first == last == 0.5
    assert 0.7 < by_winograd < 0.8
    _, choice = choose(program, data(), 1.0)
    assert precisions(choice) == ["int8"] * 3
