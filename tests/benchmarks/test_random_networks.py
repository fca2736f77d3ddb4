"""Some whole networks by chance: right, or refused by name; and what is wrong is seen."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import tvm
from tvm import relax
from tvm.relax import dpl

from tvm_eff.frontend.operators import CONVERTERS
from tvm_eff.passes import pipeline

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import random_networks  # noqa: E402
from generated_networks import network  # noqa: E402

WITH_RELU = 4
STRIDES = 80
"""Its reshape is a view in what torch.export traced, and not with decomposed operators' strides."""

EMPTY_PARTS = 34
BESIDE = 57
"""An input that is scaled and added to a convolution of it, in one kernel."""

NUMBERS = (4, 22, STRIDES, EMPTY_PARTS, BESIDE)


def test_some_networks() -> None:
    found = dict(random_networks.try_networks(NUMBERS))
    assert {number: str(each) for number, each in found.items() if each.kind != "right"} == {}
    assert all(each.operators > 0 for each in found.values())


def test_a_number_is_one_network() -> None:
    one, again, other = network(5), network(5), network(6)
    assert str(one.module) == str(again.module) != str(other.module)
    assert one.inputs == again.inputs
    weights = zip(one.module.parameters(), again.module.parameters(), strict=True)
    assert all(torch.equal(mine, same) for mine, same in weights)


def test_a_wrong_converter_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def negated(node: torch.fx.Node, importer: Any) -> relax.Var:
        return importer.block_builder.emit(relax.op.negative(importer.env[node.args[0]]))

    monkeypatch.setitem(CONVERTERS, "relu.default", negated)
    ((_, outcome),) = random_networks.try_networks([WITH_RELU])
    assert outcome.kind == "wrong"
    assert "'relu.default'" in outcome.words


def test_a_wrong_pass_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    @tvm.transform.module_pass(opt_level=0)
    def wrong(mod: tvm.IRModule, _: Any) -> tvm.IRModule:
        x = dpl.wildcard()

        def negated(_: relax.Expr, found: Any) -> relax.Expr:
            return relax.op.negative(found[x])

        mod["main"] = dpl.rewrite_call(dpl.is_op("relax.nn.relu")(x), negated, mod["main"])
        return mod

    monkeypatch.setattr(pipeline, "simplify_batch_norm", wrong)
    ((_, outcome),) = random_networks.try_networks([WITH_RELU])
    assert outcome.kind == "wrong"
    assert "output 0 is wrong" in outcome.words


def test_what_is_wrong_is_named(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def raising(*_: Any) -> Any:
        raise RuntimeError("a crash of TVM's")

    monkeypatch.setattr(pipeline, "layout", raising)
    assert random_networks.main(["--only", "3"]) == 2
    shown = capfd.readouterr()
    assert "3: crashed" in shown.out
    assert "a crash of TVM's" in shown.out
    assert "1 crashed" in shown.out
    assert "--only 3" in shown.err
