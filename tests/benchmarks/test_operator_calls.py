"""Some calls of operators by chance: right, or refused by name; and what is wrong is seen."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from calls import call
from tvm import relax

from tvm_eff.frontend.operators import CONVERTERS

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import operator_calls  # noqa: E402

CALLS = 20


def test_some_calls() -> None:
    outcomes, lines = operator_calls.try_calls(range(CALLS))
    assert lines["wrong"] == []
    assert sum(outcomes.values()) == CALLS
    assert outcomes["right"] > CALLS * 0.8


def test_a_wrong_converter_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(node: torch.fx.Node, importer: Any) -> relax.Var:
        return importer.block_builder.emit(relax.op.negative(importer.env[node.args[0]]))

    for name in ("sigmoid.default", "tanh.default", "erf.default", "relu.default"):
        monkeypatch.setitem(CONVERTERS, name, without)
    made = next(n for n in range(1000) if call(n).words == "tanh")
    outcomes, lines = operator_calls.try_calls([made])
    assert outcomes == {"wrong": 1}
    assert "'tanh.default'" in lines["wrong"][0]
    assert lines["wrong"][0].startswith(f"{made}: tanh of ")
