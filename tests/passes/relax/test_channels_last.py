"""Which kernels remain after the conversion to channels-last."""

from __future__ import annotations

import pytest
import torch
from kernels import lowered
from network_families import ShuffleNetUnit
from network_modules import Applied
from networks import made
from test_fold_scale import kernels
from torch import nn


def names(model: nn.Module, *shapes: tuple[int, ...]) -> list[str]:
    return kernels(lowered(model, *shapes))


def test_unknown_operator_gets_its_input_as_pytorch_has_it() -> None:
    layers = [nn.Conv2d(3, 8, 1), Applied(lambda x: x.repeat(1, 1, 2, 1)), nn.Conv2d(8, 4, 1)]
    assert names(nn.Sequential(*layers), (1, 3, 8, 8)) == [
        "transpose",
        "convd_add",
        "transpose_tile_transpose",
        "convd_add",
        "transpose",
    ]


def test_channel_shuffle_is_one_kernel() -> None:
    model = nn.Sequential(nn.Conv2d(3, 12, 1), ShuffleNetUnit(12, 3)).eval()
    assert names(model, (1, 3, 8, 8)).count("reshape_transpose_reshape") == 1


def test_dense_layer_behind_a_flattening_takes_the_rows_as_they_are_stored() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10))
    assert names(model, (2, 3, 8, 8)) == ["transpose", "convd_add_relu", "matmul_add"]


def test_flattening_that_is_returned_is_in_order() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten())
    assert names(model, (2, 3, 8, 8))[-1].count("transpose") == 1


@pytest.mark.parametrize("reduce", ["mean", "amax"])
def test_one_position_is_reshaped_and_not_transposed(reduce: str) -> None:
    function = Applied(lambda x: getattr(x, reduce)((2, 3)))
    model = nn.Sequential(nn.Conv2d(3, 8, 3), function, nn.Linear(8, 4))
    called = names(model, (1, 3, 8, 8))
    assert sum("transpose" in each for each in called) == 1
    assert called[-1] == "matmul_add"


def test_layout_is_changed_once_for_several_readers() -> None:
    class Readers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.left(x)) * torch.tanh(self.right(x))

    assert names(Readers(), (1, 3, 8, 8)).count("transpose") == 2


def test_excitation_is_no_part_of_the_convolution_that_computes_it() -> None:
    # Otherwise the tile of one position would write the whole activation.
    model, (x,) = made("mobilenet_v3")
    called = names(model, x.shape)
    assert "multiply_apart" in called
    assert "convd_add_add_tir_clip_tir_clip_divide" in called


def test_equal_parts_are_pooled_as_usual() -> None:
    model, (x,) = made("adaptive_pooling_of_equal_parts")
    assert "avg_poold" in names(model, x.shape)


def test_transposed_convolution_multiplies_by_no_gap() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ConvTranspose2d(8, 6, 4, 2, 1))
    network = lowered(model, (1, 3, 5, 5))
    # Four phases of two by two elements.
    assert (24, 2, 2, 8) in [p.shape for p in network.params]
    called = kernels(network)
    assert called[1:3] == ["convd_add", "convd"] and len(called) == 4


def test_depthwise_transposed_convolution_multiplies_by_no_zero() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.ConvTranspose2d(8, 8, 3, 2, 1, groups=8), nn.ReLU()
    )
    found = names(model, (1, 3, 5, 5))
    # It is sliced to its size afterwards, fused with bias and ReLU.
    assert found[2] == "depthwise_deconvolution"
    assert found[3].startswith("reshape_strided_slice_add_relu")
