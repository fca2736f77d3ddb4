"""What follows from the figures, on ones that nobody measured."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest
from made_up import FULL, HALF, SLOWER, comparison, cost, instructions, study

from study import report


def test_saving_that_is_half_delivered() -> None:
    assert HALF.theoretical == 8
    assert HALF.measured == pytest.approx(4)
    assert HALF.delivered == pytest.approx(0.5)


def test_saving_that_is_delivered_in_full() -> None:
    assert FULL.measured == pytest.approx(8)
    assert FULL.delivered == pytest.approx(1)


def test_layer_that_is_slower_in_spite_of_fewer_macs() -> None:
    assert SLOWER.theoretical == 8
    assert SLOWER.measured == pytest.approx(0.5)
    assert SLOWER.delivered == pytest.approx(1 / 16)


def test_delivered_is_the_ratio_of_the_rates() -> None:
    assert HALF.factorized.mac_rate == pytest.approx(1e9)
    assert HALF.delivered == pytest.approx(HALF.factorized.mac_rate / HALF.standard.mac_rate)


def test_each_round_has_a_ratio_of_its_own() -> None:
    # What slows a whole round down does not show.
    disturbed = comparison(
        standard=cost(8, 4.0, 8.0, 4.0, 40.0), factorized=cost(1, 1.0, 2.0, 1.0, 10.0)
    )
    assert disturbed.rounds == (4.0, 4.0, 4.0, 4.0)
    assert disturbed.noise == 0


def test_noise_is_what_differs_between_rounds() -> None:
    standard = cost(8, *(float(each) for each in range(90, 111)))
    noisy = comparison(standard=standard, factorized=cost(1, *[10.0] * 21))
    assert noisy.measured == 10
    assert noisy.spread == pytest.approx((9.2, 10.8))
    assert noisy.noise == pytest.approx(0.08)


def test_one_round_says_nothing_of_the_noise() -> None:
    once = comparison(standard=cost(8, 4.0), factorized=cost(1, 1.0))
    assert once.noise is None
    assert once.measured == 4
    assert "| 4.00x | - | 50% |" in report.markdown(study(once))


def test_formula_beside_the_count() -> None:
    assert HALF.formula_holds
    assert HALF.promised == 8
    off = comparison(ratio=Fraction(1, 9))
    assert not off.formula_holds
    assert off.promised == 9
    assert off.theoretical == 8


def test_kernel_that_costs_most_counts_its_calls() -> None:
    kernel, share = HALF.factorized.dearest
    assert kernel.label == "conv 1x1"
    assert share == pytest.approx(60 / 80)


@pytest.mark.parametrize(("load", "disturbed"), [(None, False), (0.9, False), (1.1, True)])
def test_machine_with_other_work(load: float | None, disturbed: bool) -> None:
    assert study(HALF, load=load).disturbed is disturbed


def test_json_of_seconds() -> None:
    found = json.loads(json.dumps(study(HALF).as_dict()))
    (pair,) = found["pairs"]
    assert (found["unit"], found["date"]) == ("seconds", "2026-11-23")
    assert pair["shape"] == {"inputs": 64, "outputs": 128, "size": 28, "kernel": 3, "stride": 1}
    assert pair["theoretical_ratio"] == 8
    assert pair["measured_speed_up"] == pytest.approx(4)
    assert pair["measured_speed_up_rounds"] == pytest.approx([4, 4.4, 4])
    assert pair["fraction_delivered"] == pytest.approx(0.5)
    assert pair["formula"]["ratio"] == "1/8"
    assert pair["standard"]["turns"] == [4e-3, 4.4e-3, 4e-3]
    assert pair["factorized"]["kernels"][0] == {"label": "conv 1x1", "calls": 2, "cost": 30e-6}


def test_json_of_instructions_knows_no_speed_up() -> None:
    text = json.dumps(study(instructions(HALF), unit="instructions").as_dict())
    assert "speed" not in text
    assert json.loads(text)["pairs"][0]["instruction_ratio"] == pytest.approx(4)
