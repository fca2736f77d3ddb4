"""A trained network on real digits: int8 and mixed precision are as often right as float32."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import accuracy
import digits

DATA = digits.digits()
FEW = 40
"""Images that an emulated board classifies."""


def test_the_images_are_apart() -> None:
    assert (len(DATA.train), len(DATA.test)) == (1000, 797)
    known = {each.tobytes() for each in DATA.train}
    assert sum(each.tobytes() in known for each in DATA.test) < 4
    assert (DATA.train.min(), DATA.train.max()) == (0, 1)


def test_training_is_the_same_each_time() -> None:
    one, other = (digits.trained("mobilenet", DATA, epochs=1) for _ in range(2))
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_trained_networks_keep_their_accuracy(emulator: None) -> None:
    """At most half a point of 797 images is lost: 3 of them."""
    network = digits.trained("mobilenet", DATA)
    row = accuracy.row_of("mobilenet", network, DATA, 0.005)
    assert row.pytorch == row.float32 > 0.97
    assert row.int8 >= row.float32 - 0.005
    assert row.auto >= row.float32 - 0.01
    assert np.sign(row.int8_layers) == 1
    assert row.int8_bytes < 0.35 * row.float32_bytes  # scales and biases weigh
    with torch.no_grad():
        right = network(torch.from_numpy(DATA.test[:FEW])).argmax(1).numpy()
    few = replace(DATA, test=DATA.test[:FEW], test_labels=right)
    assert accuracy.share_right_in_half(network, few) == 1
