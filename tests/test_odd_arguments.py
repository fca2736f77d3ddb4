"""Arguments of another type than a Python function takes: one message, never a traceback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tvm_eff
from tvm_eff.errors import Error

ODD: list[dict[str, Any]] = [
    {"target": 7},
    {"target": None},
    {"dtype": 32},
    {"dtype": ["float32"]},
    {"output": None},
    {"output": 1.5},
    {"logs": 3},
    {"dump_ir": True},
    {"weights": {}},
    {"rpc": 9090},
    {"rpc": ("board", 9090)},
    {"key": None},
    {"name": 5},
    {"trials": "8"},
    {"trials": 2.5},
    {"trials": True},
    {"trials": 0},
    {"workers": [2]},
    {"budget": "90s"},
    {"budget": None},
    {"until_roofline": "0.9"},
    {"validation_inputs": "three"},
    {"validation_inputs": 0},
    {"width": "half"},
    {"resolution": 22.4},
    {"progress": "poor"},
    {"device": "board"},
    {"inputs": "noise"},
    {"inputs": [object()]},
    {"input_shapes": 7},
    {"input_dtypes": 7},
]


@pytest.mark.parametrize("odd", ODD, ids=[f"{n}-{next(iter(each))}" for n, each in enumerate(ODD)])
def test_compile(odd: dict[str, Any], tmp_path: Path) -> None:
    options = {"output": tmp_path / "dist", "logs": tmp_path / "logs", **odd}
    with pytest.raises(Error) as raised:
        tvm_eff.compile("squeezenet1_1", **options)
    assert len(str(raised.value)) < 1000
    assert not list(tmp_path.glob("dist/*"))


@pytest.mark.parametrize(
    "model",
    [7, None, ["squeezenet"], object(), np.zeros(3)],
    ids=["number", "none", "list", "object", "array"],
)
def test_no_model(model: Any) -> None:
    with pytest.raises(Error, match="the model is a"):
        tvm_eff.compile(model)
