"""Any ordinary network: fused, channels-last, scheduled, and what PyTorch computes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import tvm
from kernels import HOST
from networks import NETWORKS, made
from records import most_promising
from tvm import relax

from tvm_eff import frontend, passes
from tvm_eff.deploy.library import build_library
from tvm_eff.device import Device, LocalDevice
from tvm_eff.passes import RelaxNetwork
from tvm_eff.tensors import TOLERANCE, relative_error


@pytest.fixture(scope="module")
def device() -> Iterator[LocalDevice]:
    with LocalDevice(threads=2) as opened:
        yield opened


def build(network: RelaxNetwork, folder: Path) -> Path:
    """Build a network with the most promising schedule of every kernel."""
    library = folder / "model.so"
    build_library(network, most_promising(network, HOST), HOST, library)
    return library


def transposes_inside(network: RelaxNetwork) -> list[str]:
    """Return the kernels that change a layout between the first kernel and the last."""
    main = network.mod["main"]
    bindings = [binding for block in main.body.blocks for binding in block.bindings]
    returned = {main.body.body}
    for binding in bindings:
        if binding.var in returned and isinstance(binding.value, relax.Tuple):
            returned |= set(binding.value.fields)
    inputs = set(main.params[: len(network.inputs)])
    found = []
    for binding in bindings:
        call = binding.value
        if not isinstance(call, relax.Call) or call.op != tvm.ir.Op.get("relax.call_tir"):
            continue
        name = call.args[0].name_hint
        entry = any(argument in inputs for argument in call.args[1])
        if "transpose" in name and not entry and binding.var not in returned:
            found.append(name)
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_network(name: str, device: Device, tmp_path: Path) -> None:
    model, inputs = made(name)
    with torch.no_grad():
        wanted = model(*inputs)
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)

    network = passes.lower(frontend.import_model(model, inputs), HOST)
    assert len(transposes_inside(network)) == NETWORKS[name].transposes

    outputs, _ = device.run(build(network, tmp_path), [x.numpy() for x in inputs])
    assert len(outputs) == len(wanted)
    for actual, expected in zip(outputs, wanted, strict=True):
        assert relative_error(actual, expected.numpy()) <= TOLERANCE
