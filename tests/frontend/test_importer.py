"""Import to Relax: inputs and parameters are kept, and failures are one clear error."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import torch
from torch import nn

from tvm_eff import frontend, models
from tvm_eff.errors import ModelError


class Applied(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: torch.Tensor) -> object:
        return self.function(*inputs)


@pytest.mark.parametrize(
    ("model", "shape", "reason"),
    [
        (Applied(lambda x: torch.linalg.svd(x)[1]), (4, 4), "imported to Relax: .*linalg_svd"),
        (Applied(lambda x: torch.fft.fft(x).real), (1, 8), "imported: .*fft_r2c.*complex64"),
        (Applied(lambda x: x if x.sum() > 0 else -x), (3,), "traced: .*depends on the values"),
        (models.create("squeezenet1_1"), (1, 5, 224, 224), "traced: .*3 channels.*5 channels"),
        (models.create("squeezenet1_1"), (1, 3, 8, 8), "traced: .*too small"),
        (nn.Linear(3, 4), (2, 5), "traced: .*5.*3"),
    ],
    ids=["svd", "fft", "data_dependent", "wrong_channels", "too_small", "wrong_features"],
)
def test_what_cannot_be_imported(
    model: nn.Module,
    shape: tuple[int, ...],
    reason: str,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(ModelError, match=f"the model cannot be {reason}") as caught:
        frontend.import_model(model, [torch.zeros(shape)])
    assert "\n" not in str(caught.value)
    # torch.export logs tracebacks and prints listings of its own.
    assert capfd.readouterr() == ("", "")
    assert [each for each in caplog.records if each.levelno >= logging.WARNING] == []


def test_missing_input() -> None:
    with pytest.raises(ModelError, match="missing 1 required positional argument"):
        frontend.import_model(nn.ReLU(), [])


def test_inputs_keep_their_names_and_order() -> None:
    class Two(nn.Module):
        def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return image * mask

    imported = frontend.import_model(Two(), [torch.zeros(2, 3), torch.zeros(3)])
    assert imported.inputs == ("image", "mask")
    assert imported.params == []


def test_parameters_are_beside_the_network() -> None:
    convolution = nn.Conv2d(3, 8, 3)
    imported = frontend.import_model(convolution, [torch.zeros(1, 3, 8, 8)])
    weight, bias = imported.params
    assert (weight == convolution.weight.detach().numpy()).all()
    assert (bias == convolution.bias.detach().numpy()).all()  # type: ignore[union-attr]
    assert len(imported.mod["main"].params) == 3


def test_unknown_operator_is_named_with_its_module_and_line() -> None:
    class Inner(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.svd(x)[1]

    body = nn.Sequential(nn.Conv2d(3, 4, 3), Inner())
    with pytest.raises(
        ModelError, match=r"operator '_linalg_svd.default' in module '1' \(.*test_importer.py:\d+\)"
    ):
        frontend.import_model(body, [torch.zeros(1, 3, 8, 8)])


def test_operator_that_fails_to_convert_is_named() -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        return x.index_put((x == x,), x.flatten())

    with pytest.raises(ModelError, match=r"in operator 'index_put.default'.*test_importer.py:\d+"):
        frontend.import_model(Applied(forward), [torch.zeros(2, 8, 4, 4)])
