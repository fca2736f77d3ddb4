"""An import that is wrong is found before tuning, by its operator, module and line."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from tvm import relax

from tvm_eff import frontend, paths, tensors
from tvm_eff.deploy import proof
from tvm_eff.errors import ModelError
from tvm_eff.frontend.operators import CONVERTERS
from tvm_eff.models import Network, trace
from tvm_eff.tensors import TensorSpec

IMAGE = TensorSpec((1, 3, 8, 8), "float32")


class Net(nn.Module):
    """A few operators in modules."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sigmoid())

    def forward(self, x: torch.Tensor) -> Any:
        y = self.body(x)
        return y.amax((2, 3)), y.max(1), torch.add(y, y.relu(), alpha=0.5), (y > 0.1).sum(1)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiler's cache is in it as well: it is slow the first time."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TVM_EFF_CACHE", str(cache))
    shutil.rmtree(cache / "proof", ignore_errors=True)
    return cache


def proved(module: nn.Module, *specs: TensorSpec) -> int:
    program = trace(Network("net", module.eval(), specs or (IMAGE,)))
    core = frontend.decompose(program)
    return proof.prove(program, core, tensors.varied_inputs(program.network.inputs))


def test_right(own_cache: Path) -> None:
    count = proved(Net())
    assert count > 8
    (library,) = (own_cache / "proof").glob("*.so")
    (known,) = (own_cache / "proof").glob("*.proved")
    written = [each.stat().st_mtime_ns for each in (library, known)]
    assert proved(Net()) == count
    assert [each.stat().st_mtime_ns for each in (library, known)] == written
    assert len(list((own_cache / "proof").glob("*.proved"))) == 1


def test_other_weights_are_proved_again(own_cache: Path) -> None:
    module = Net()
    proved(module)
    with torch.no_grad():
        next(module.parameters()).mul_(2)
    proved(module)
    assert len(list((own_cache / "proof").glob("*.proved"))) == 2
    assert len(list((own_cache / "proof").glob("*.so"))) == 1


class Longer(Net):
    """The same operators and one more."""

    def forward(self, x: torch.Tensor) -> Any:
        first, *others = super().forward(x)
        return first.tanh(), *others


def test_networks_share_kernels(own_cache: Path) -> None:
    proved(Net())
    (first,) = (own_cache / "proof").glob("*.keys")
    assert len(first.read_text().split()) > 5
    proved(Longer())
    (second,) = set((own_cache / "proof").glob("*.keys")) - {first}
    assert len(second.read_text().split()) == 1


def test_a_library_that_is_gone_is_made_again(own_cache: Path) -> None:
    proved(Net())
    for each in [*(own_cache / "proof").glob("*.so"), *(own_cache / "proof").glob("*.proved")]:
        each.unlink()
    assert proved(Net()) > 5
    assert len(list((own_cache / "proof").glob("*.so"))) == 1


def without_alpha(node: torch.fx.Node, importer: Any) -> relax.Var:
    x, y = node.args[:2]
    return importer.block_builder.emit(relax.op.add(importer.env[x], importer.env[y]))


def upside_down(node: torch.fx.Node, importer: Any) -> relax.Var:
    return importer.block_builder.emit(relax.op.flip(importer.env[node.args[0]], 2))


def of_another_shape(node: torch.fx.Node, importer: Any) -> relax.Var:
    found = relax.op.max(importer.env[node.args[0]], [2, 3], keepdims=True)
    return importer.block_builder.emit(found)


def as_bytes(node: torch.fx.Node, importer: Any) -> relax.Var:
    found = relax.op.astype(importer.env[node.args[0]], "uint8")
    return importer.block_builder.emit(relax.op.sum(found, [1]))


WRONG = {
    "argument": ("add.Tensor", without_alpha, r"'add.Tensor' \(.*on noise: at \[\d.* instead of"),
    "activation": ("sigmoid.default", upside_down, "in module 'body.2' .*on noise: at"),
    "shape": ("amax.default", of_another_shape, r"its shape is \(1, 4, 1, 1\) instead of \(1, 4\)"),
    "dtype": ("sum.dim_IntList", as_bytes, "its dtype is uint8 instead of int64"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_converter(name: str, monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    operator, converter, message = WRONG[name]
    names = {node.target.__name__ for node in decomposed(Net())}
    assert operator in names, names
    monkeypatch.setitem(CONVERTERS, operator, converter)
    with pytest.raises(ModelError, match=f"^the import of operator .*{message}") as caught:
        proved(Net())
    assert re.search(rf"\(.*{Path(__file__).name}:\d+\) is wrong", str(caught.value))
    assert "\n" not in str(caught.value)
    assert not list((own_cache / "proof").glob("*.proved"))


def decomposed(module: nn.Module) -> Iterator[Any]:
    program = trace(Network("net", module.eval(), (IMAGE,)))
    nodes = frontend.decompose(program).graph.nodes
    return (node for node in nodes if node.op == "call_function")


def test_what_only_large_values_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise ends at about four."""

    class Scores(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.amax(1)

    def limited(node: torch.fx.Node, importer: Any) -> relax.Var:
        x = importer.block_builder.emit(relax.op.max(importer.env[node.args[0]], [1]))
        return importer.block_builder.emit(relax.op.minimum(x, relax.const(100.0, "float32")))

    monkeypatch.setitem(CONVERTERS, "amax.default", limited)
    with pytest.raises(ModelError, match=r"wrong on values from 0 to 255: .*it is 100 instead"):
        proved(Scores())


def test_limits_of_integers(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wide(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.int() + 1

    def narrow(node: torch.fx.Node, importer: Any) -> relax.Var:
        low = relax.op.astype(importer.env[node.args[0]], "int8")
        return importer.block_builder.emit(relax.op.astype(low, "int32"))

    monkeypatch.setitem(CONVERTERS, "_to_copy.default", narrow)
    with pytest.raises(ModelError, match=r"'_to_copy.default' .*0 to 255: at \[.*it is -"):
        proved(Wide(), TensorSpec((4, 4), "uint8"))


def test_an_operator_that_cannot_be_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(node: torch.fx.Node, importer: Any) -> relax.Var:
        kind = importer.env[node.args[0]].ty
        call = relax.call_dps_packed("no.such.function", (importer.env[node.args[0]],), kind)
        return importer.block_builder.emit(call)

    monkeypatch.setitem(CONVERTERS, "sigmoid.default", unknown)
    with pytest.raises(ModelError, match=r"'sigmoid.default' in module 'body.2' .*cannot be run"):
        proved(Net())


class Wall(nn.Module):
    """Its normalisation of a bright wall is off by more than the tolerance, in PyTorch as well."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x * 0.01 + 20000)


def test_double_precision_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    assert proved(Wall()) > 1

    shutil.rmtree(paths.cache_folder() / "proof")
    monkeypatch.setattr(torch.Tensor, "double", torch.Tensor.float)
    with pytest.raises(ModelError, match=r"'native_group_norm.default' in module 'norm' .* wrong"):
        proved(Wall())


def test_an_overflow_of_pytorchs_excuses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where its float32 is infinite and double precision is not."""

    class Squares(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            huge = torch.zeros(1, 3, 8, 8)
            huge[0, 0, 0, 0] = 3e38
            return torch.cat([x, huge], 1).square()

    def off_by_a_little(node: torch.fx.Node, importer: Any) -> relax.Var:
        x = importer.env[node.args[0]]
        square = importer.block_builder.emit(relax.op.multiply(x, x))
        return importer.block_builder.emit(relax.op.add(square, relax.const(0.5, "float32")))

    assert proved(Squares()) > 1
    monkeypatch.setitem(CONVERTERS, "pow.Tensor_Scalar", off_by_a_little)
    with pytest.raises(ModelError, match=r"'pow.Tensor_Scalar' .*is wrong on noise"):
        proved(Squares())


class Means(nn.Module):
    """Sums of many values of one sign, so that all results are near one another."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


@pytest.mark.parametrize("extent", [24, 33, 64])
def test_means_of_bright_maps(extent: int) -> None:
    assert proved(Means(), TensorSpec((1, 2, extent, extent), "float32")) == 1


class MeansOfOneValue(nn.Module):
    """Means of maps that are constant where the input is, as of a network on ones."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scales = torch.tensor([0.1234567, 0.1234568, 0.1234572])
        return (x * scales[:, None, None]).mean((2, 3))


def test_means_of_one_value() -> None:
    assert proved(MeansOfOneValue(), TensorSpec((1, 3, 40, 40), "float32")) > 1


def test_means_that_are_wrong_by_more_than_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    def nearly(node: torch.fx.Node, importer: Any) -> relax.Var:
        mean = relax.op.mean(importer.env[node.args[0]], [2, 3])
        return importer.block_builder.emit(relax.op.multiply(mean, relax.const(1.00002)))

    monkeypatch.setitem(CONVERTERS, "mean.dim", nearly)
    with pytest.raises(ModelError, match=r"'mean\.dim'.* is wrong on "):
        proved(Means(), TensorSpec((1, 2, 33, 33), "float32"))


def test_inputs_that_pytorch_rejects() -> None:
    class Picky(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.arange(8.0)[x.long()]

    assert proved(Picky(), TensorSpec((3,), "uint8")) > 0
    program = trace(Network("net", Picky().eval(), (TensorSpec((3,), "int64"),)))
    bad = {"places outside": [np.full(3, 9, "int64")]}
    with pytest.raises(ModelError, match=r"net rejects all inputs .*: places outside; give inputs"):
        proof.prove(program, frontend.decompose(program), bad)


class Chances(nn.Module):
    """Nearly even chances of thousands of places: all near one another, unlike their rounding."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * 1e-4).flatten().repeat(30)[None].softmax(-1)


def test_a_sum_of_thousands_is_judged_by_its_rounding() -> None:
    assert proved(Chances()) > 1
