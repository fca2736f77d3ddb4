"""Loading weights from files: never code, and exactly those of the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from tvm_eff import models
from tvm_eff.errors import ModelError
from tvm_eff.models.weights import load_weights, require_finite


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return dict(network().state_dict())


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda s: s,
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"model": {f"module.{name}": tensor for name, tensor in s.items()}},
    ],
    ids=["plain", "checkpoint", "data_parallel"],
)
def test_torch_file(wrapped: Any, tmp_path: Path) -> None:
    torch.save(wrapped(state()), tmp_path / "w.pt")
    module = network()
    load_weights(module, tmp_path / "w.pt")
    assert all(torch.equal(module.state_dict()[name], state()[name]) for name in state())


def test_safetensors_file(tmp_path: Path) -> None:
    safetensors.torch.save_file(state(), tmp_path / "w.safetensors")
    module = network()
    load_weights(module, tmp_path / "w.safetensors")
    assert torch.equal(module.state_dict()["0.weight"], state()["0.weight"])


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.write_text, (self.path, "code ran"))


def test_code_is_never_run(tmp_path: Path) -> None:
    torch.save({"0.weight": Payload(tmp_path / "ran")}, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=r"w.pt holds more than tensors.*could run code"):
        load_weights(network(), tmp_path / "w.pt")
    assert not (tmp_path / "ran").exists()


def test_whole_module_is_refused(tmp_path: Path) -> None:
    torch.save(network(), tmp_path / "w.pt")
    with pytest.raises(ModelError, match=r"torch.save\(model.state_dict\(\)"):
        load_weights(network(), tmp_path / "w.pt")


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"junk" * 10])
def test_file_that_is_something_else(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=f"{name} cannot be read as weights"):
        load_weights(network(), tmp_path / name)


def test_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"No such file.*check --weights"):
        load_weights(network(), tmp_path / "w.pt")


def test_list_of_tensors(tmp_path: Path) -> None:
    torch.save([torch.zeros(3)], tmp_path / "w.pt")
    with pytest.raises(ModelError, match="no table of tensors"):
        load_weights(network(), tmp_path / "w.pt")


def test_weights_of_another_network(tmp_path: Path) -> None:
    wrong = state()
    del wrong["0.bias"]
    wrong["extra"] = torch.zeros(1)
    wrong["0.weight"] = torch.zeros(4, 3, 5, 5)
    torch.save(wrong, tmp_path / "w.pt")
    module = network()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with pytest.raises(ModelError) as caught:
        load_weights(module, tmp_path / "w.pt")
    message = str(caught.value)
    assert "missing: 0.bias" in message
    assert "unexpected: extra" in message
    assert "0.weight (4 x 3 x 5 x 5 instead of 4 x 3 x 3 x 3)" in message
    assert all(torch.equal(module.state_dict()[name], before[name]) for name in before)


def test_nan(tmp_path: Path) -> None:
    module = network()
    module.state_dict()["1.running_mean"][2] = float("nan")
    with pytest.raises(ModelError, match=r"'1.running_mean' of net has NaN in 1 of its 4 values"):
        require_finite(module, "net")


def test_weights_of_a_model_of_the_zoo(tmp_path: Path) -> None:
    trained = models.create("squeezenet1_1", seed=5).state_dict()
    torch.save(trained, tmp_path / "w.pt")
    module = models.load("squeezenet1_1", weights=tmp_path / "w.pt").module
    assert isinstance(module, nn.Module)
    assert torch.equal(module.state_dict()["features.0.weight"], trained["features.0.weight"])
