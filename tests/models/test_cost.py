"""Cost accounting: counts, memory and formulas against values computed by hand."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tvm_eff import models
from tvm_eff.errors import ModelError
from tvm_eff.models import FactorizedLayer, Formula, Network, account, count
from tvm_eff.models.flattened import FlattenedStage
from tvm_eff.models.mobilenet import DepthwiseSeparable
from tvm_eff.tensors import TensorSpec

FLOAT = 4


class Applied(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.function(*inputs)


def network(module: nn.Module, *shapes: tuple[int, ...]) -> Network:
    return Network("net", module.eval(), tuple(TensorSpec(s, "float32") for s in shapes))


@pytest.mark.parametrize(
    ("module", "shapes", "parameters", "macs"),
    [
        (nn.Conv2d(3, 8, 3), [(2, 3, 10, 12)], 8 * 27 + 8, 2 * 8 * 10 * 8 * 27),
        (nn.Conv2d(8, 8, 3, padding=1, groups=4), [(1, 8, 5, 5)], 8 * 18 + 8, 8 * 25 * 18),
        (nn.Conv2d(8, 8, 3, groups=8, bias=False), [(1, 8, 5, 5)], 72, 8 * 9 * 9),
        (nn.Conv2d(4, 6, 3, dilation=2, stride=2), [(1, 4, 11, 11)], 6 * 37, 6 * 16 * 36),
        (nn.Conv2d(4, 6, 3, padding="same"), [(1, 4, 7, 7)], 6 * 37, 6 * 49 * 36),
        # Each input element meets every weight of its channel once.
        (nn.ConvTranspose2d(4, 6, 3, stride=2), [(1, 4, 5, 5)], 4 * 54 + 6, 4 * 25 * 54),
        (nn.Conv1d(4, 6, 3), [(1, 4, 10)], 6 * 13, 6 * 8 * 12),
        (nn.Linear(5, 7), [(2, 3, 5)], 42, 6 * 5 * 7),
        (Applied(lambda a, b: a @ b), [(3, 4, 5), (3, 5, 6)], 0, 3 * 4 * 5 * 6),
        (Applied(lambda x: F.conv2d(x, torch.ones(2, 3, 1, 1))), [(1, 3, 4, 4)], 0, 16 * 6),
        (nn.ConvTranspose2d(4, 6, 3, groups=2, bias=False), [(1, 4, 5, 5)], 108, 4 * 25 * 27),
        (nn.Conv3d(2, 4, 3, bias=False), [(1, 2, 5, 6, 7)], 4 * 54, 4 * 60 * 54),
        (nn.Linear(5, 7), [(5,)], 42, 35),
        (Applied(lambda a, b: a @ b), [(4, 5), (5,)], 0, 20),
        (Applied(lambda a, b: a @ b), [(5,), (5,)], 0, 5),
        (Applied(torch.addmv), [(4,), (4, 5), (5,)], 0, 20),
        (Applied(torch.addbmm), [(4, 6), (3, 4, 5), (3, 5, 6)], 0, 3 * 4 * 5 * 6),
        (Applied(lambda a, b: torch.einsum("ij,kj->ik", a, b)), [(2, 3), (4, 3)], 0, 24),
        # Queries against keys, then what comes of it against values: 2 heads of 4.
        (Applied(F.scaled_dot_product_attention), [(1, 2, 3, 4)] * 3, 0, 2 * 2 * 3 * 3 * 4),
        # Four heads of queries for two of keys.
        (
            Applied(lambda q, k: F.scaled_dot_product_attention(q, k, k, enable_gqa=True)),
            [(1, 4, 3, 4), (1, 2, 3, 4)],
            0,
            2 * 4 * 3 * 3 * 4,
        ),
        # For each of three elements, four gates that see four inputs and five states.
        (nn.LSTM(4, 5, batch_first=True), [(1, 3, 4)], 20 * 9 + 40, 3 * 20 * 9),
        (nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)), [(1, 3, 4, 4)], 0, 0),
    ],
)
def test_counts(
    module: nn.Module, shapes: list[tuple[int, ...]], parameters: int, macs: int
) -> None:
    cost = account(network(module, *shapes))
    assert (cost.parameters, cost.macs) == (parameters, macs)
    assert count(network(module, *shapes)) == (parameters, macs)
    assert sum(layer.parameters for layer in cost.layers) == parameters


class Twice(nn.Module):
    """One 4 x 4 matrix, applied twice in the way that `how` names."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.first = nn.Linear(4, 4, bias=False)
        self.second = self.first
        if how == "tied":
            self.second = nn.Linear(4, 4, bias=False)
            self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        if self.how == "as a matrix":
            return {"y": (x @ self.first.weight.T) @ self.first.weight.T}
        if self.how == "without gradients":
            with torch.no_grad():
                x = self.first(x)
        elif self.how == "in lower precision":
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return {"y": self.second(self.first(x))}
        else:
            x = self.first(x)
        return {"y": self.second(x)}


@pytest.mark.parametrize(
    "how", ["as one", "tied", "as a matrix", "without gradients", "in lower precision"]
)
def test_shared_weights_count_once_and_work_twice(how: str) -> None:
    net = network(Twice(how), (1, 4))
    cost = account(net)
    assert (cost.parameters, cost.macs) == count(net) == (16, 32)
    assert [layer.parameters for layer in cost.layers] == [16, 0]
    assert [layer.weight_bytes for layer in cost.layers] == [16 * FLOAT, 16 * FLOAT]
    assert cost.weight_bytes == 16 * FLOAT
    assert cost.weight_bytes_read == 32 * FLOAT
    if how == "without gradients":
        assert [layer.path for layer in cost.layers] == ["first", "second"]


def test_parameters_that_are_frozen_or_not_used_count_too() -> None:
    class Kept(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Parameter(torch.ones(3))
            self.layer = nn.Linear(4, 4).requires_grad_(False)
            self.register_buffer("scale", torch.ones(4), persistent=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x) * self.scale

    cost = account(network(Kept(), (1, 4)))
    assert (cost.parameters, cost.buffers) == (23, 4)
    assert cost.layers[1].weight_bytes == 4 * FLOAT


def test_bytes_and_intensity_of_a_layer() -> None:
    cost = account(network(nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8)), (1, 3, 4, 4)))
    convolution, norm = cost.layers
    assert (convolution.path, convolution.operator) == ("0", "conv2d")
    assert convolution.output_shape == (1, 8, 4, 4)
    assert convolution.weight_bytes == 32 * FLOAT
    assert convolution.activation_bytes == (48 + 128) * FLOAT
    assert convolution.arithmetic_intensity == 2 * 384 / ((32 + 48 + 128) * FLOAT)
    assert norm.parameters == 16
    assert norm.weight_bytes == 32 * FLOAT
    # Two running statistics of eight values, and the number of batches.
    assert cost.buffers == 17
    assert cost.activation_bytes == (48 + 128 + 128 + 128) * FLOAT


@pytest.mark.parametrize(
    ("function", "values"),
    [
        (lambda x: torch.relu(x), 10 + 10),
        (lambda x: x.clone().relu_(), (10 + 10) + (10 + 10)),
        (lambda x: x.view(2, 5).t(), 0),
        (lambda x: x.view(2, 5).t().reshape(10), 10 + 10),
        (lambda x: x.view(2, 5).t().contiguous(), 10 + 10),
        (lambda x: F.dropout(x.clone(), training=False, inplace=True), 10 + 10),
        # One value each, which is broadcast.
        (lambda x: x[:1].expand(10) + x, 1 + 10 + 10),
        # A value that depends on no input is a constant.
        (lambda x: torch.zeros(10) + x, 10 + 10),
        (lambda x: x + x, 10 + 10),
    ],
    ids=[
        "operator",
        "in place",
        "views",
        "reshape that copies",
        "contiguous",
        "dropout",
        "broadcast",
        "constant",
        "twice the same",
    ],
)
def test_activation_bytes(function: Callable[[torch.Tensor], Any], values: int) -> None:
    cost = account(network(Applied(function), (10,)))
    assert cost.activation_bytes == values * FLOAT


@pytest.mark.parametrize(
    ("function", "values"),
    [
        # Input and output.
        (lambda x: torch.relu(x), 20),
        # The input is dead when the second operator runs.
        (lambda x: torch.relu(torch.relu(x)), 20),
        # The residual keeps it: input, first result, second result.
        (lambda x: x + torch.relu(torch.relu(x)), 30),
        # A view takes no memory of its own, dropout does nothing.
        (lambda x: F.dropout(torch.relu(x).reshape(5, 2), training=False).flatten(), 20),
        # An output stays live to the end.
        (lambda x: (torch.relu(x), torch.sigmoid(torch.tanh(x))), 30),
        (lambda x: torch.cat([x, x, x]), 40),
        (lambda x: [each + 1 for each in x.split(5)], 20),
        (lambda x: torch.relu_(x + 1), 20),
        # Reshaping a transposed view makes a copy.
        (lambda x: x.reshape(2, 5).t().reshape(10), 20),
        # Twice as wide.
        (lambda x: x.double(), 30),
        # A slice of the first result keeps all of it live, while the input is dead.
        (lambda x: torch.relu(torch.relu(x).narrow(0, 0, 2)), 20),
        (lambda x: torch.zeros(10).copy_(x), 20),
        (lambda x: x, 10),
    ],
    ids=[
        "one",
        "chain",
        "residual",
        "view",
        "outputs",
        "concat",
        "split",
        "in place",
        "copy",
        "cast",
        "part",
        "filled",
        "nothing",
    ],
)
def test_peak_memory(function: Callable[[torch.Tensor], Any], values: int) -> None:
    cost = account(network(Applied(function), (10,)))
    assert cost.peak_activation_bytes == values * FLOAT


def test_two_inputs_are_both_needed_at_the_start() -> None:
    cost = account(network(Applied(lambda a, b: torch.relu(a).sum() + b), (20,), (10,)))
    assert cost.peak_activation_bytes == (20 + 10 + 20) * FLOAT


def test_rejected_input() -> None:
    rejecting = network(nn.Conv2d(3, 4, 1), (1, 4, 8, 8))
    with pytest.raises(ModelError, match="rejects an input of 1 x 4 x 8 x 8"):
        account(rejecting)
    with pytest.raises(ModelError, match=r"net cannot be counted: .* 3 channels"):
        count(rejecting)


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        (lambda x: x[x > 0], "its 'layer' calls aten.nonzero"),
        (
            lambda x: torch.cond(x.sum() > 0, lambda a: a @ a, lambda a: a + 1, (x,)),
            r"its 'layer' has control flow \(cond\)",
        ),
    ],
)
def test_cost_that_depends_on_the_data(
    function: Callable[[torch.Tensor], Any], wanted: str
) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = Applied(function)

        def forward(self, x: torch.Tensor) -> Any:
            return self.layer(x)

    with pytest.raises(ModelError, match=wanted) as caught:
        account(network(Net(), (4, 4)))
    assert "\n" not in str(caught.value)


def test_saved_program_is_counted_too() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).eval()
    plain = account(network(module, (1, 3, 8, 8)))
    exported = torch.export.export(module, (torch.zeros(1, 3, 8, 8),))
    saved = account(Network("net", exported, (TensorSpec((1, 3, 8, 8), "float32"),)))
    decomposed = Network(
        "net", exported.run_decompositions(), (TensorSpec((1, 3, 8, 8), "float32"),)
    )
    assert count(decomposed) == (account(decomposed).parameters, account(decomposed).macs)
    assert count(decomposed) == (plain.parameters, plain.macs)
    assert (saved.parameters, saved.macs, saved.layers) == (
        plain.parameters,
        plain.macs,
        plain.layers,
    )


@pytest.mark.parametrize("name", ["squeezenet", "mobilenet_0.25_128", "flattened_cifar"])
def test_totals_of_the_zoo(name: str) -> None:
    loaded = models.load(name)
    cost = account(loaded)
    assert (cost.parameters, cost.macs) == count(loaded)
    if name == "squeezenet":
        assert (cost.parameters, cost.macs) == (1_248_424, 818_924_576)
    assert cost.weight_bytes == FLOAT * cost.parameters
    assert cost.factorized
    assert all(each.verdict.startswith("exact") for each in cost.factorized)


def test_formula_that_holds_exactly() -> None:
    layer = FlattenedStage(6, 10, kernel=(3, 5))
    (saving,) = account(network(nn.Sequential(layer), (1, 6, 9, 11))).factorized
    assert saving.path == "0"
    assert saving.input_shape == (1, 6, 9, 11)
    # Kx N + Ky N + M N over Kx Ky M N.
    assert saving.macs == saving.formula.ratio == Fraction(5 * 10 + 3 * 10 + 60, 5 * 3 * 60)
    assert saving.parameters != saving.macs
    assert saving.verdict == "exact without biases"


@pytest.mark.parametrize(("m", "n", "kx", "ky"), [(3, 8, 3, 3), (5, 7, 5, 3), (16, 4, 1, 5)])
def test_papers_formulas_by_hand(m: int, n: int, kx: int, ky: int) -> None:
    flattened = FlattenedStage(m, n, kernel=(ky, kx))
    (saving,) = account(network(flattened, (2, m, 9, 13))).factorized
    by_hand = Fraction(kx * n + ky * n + m * n, kx * ky * m * n)
    assert (saving.macs, saving.weights, saving.formula.ratio) == (by_hand,) * 3
    for stride in (1, 2):
        separable = DepthwiseSeparable(m, n, stride)
        (saving,) = account(network(separable, (1, m, 9, 13))).factorized
        by_hand = Fraction(1, n) + Fraction(1, 9)
        assert (saving.macs, saving.weights, saving.formula.ratio) == (by_hand,) * 3
        assert saving.verdict == "exact without batch norm"


def test_layer_called_twice_and_by_keyword() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = FlattenedStage(4, 4, kernel=(3, 3))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.layer(F.max_pool2d(self.layer(x=image), 2))

    savings = account(network(Net(), (1, 4, 8, 8))).factorized
    assert [each.input_shape for each in savings] == [(1, 4, 8, 8), (1, 4, 4, 4)]
    assert [each.path for each in savings] == ["layer", "layer"]


def test_formula_that_does_not_hold_is_not_called_exact() -> None:
    class Wrong(DepthwiseSeparable):
        def formula(self) -> Formula:
            return Formula("1/2", Fraction(1, 2), "ours")

    class Departing(DepthwiseSeparable):
        def formula(self) -> Formula:
            return Formula("1/2", Fraction(1, 2), "ours", ("it is a test",))

    for layer, wanted in ((Wrong, "unexplained"), (Departing, "it is a test")):
        made: FactorizedLayer = layer(8, 8)
        (saving,) = account(network(made, (1, 8, 8, 8))).factorized
        assert saving.verdict == f"MACs and weights differ: {wanted}"
