"""Concatenation in place: no separate kernel where its inputs have no other use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from kernels import HOST, lowered
from torch import nn

from tvm_eff import tune
from tvm_eff.deploy.library import build_library
from tvm_eff.device import LocalDevice
from tvm_eff.passes import RelaxNetwork, write_slices_in_place
from tvm_eff.passes.attributes import ASSEMBLES_SLICES
from tvm_eff.tensors import relative_error

SHAPE = (2, 8, 7, 9)


class Fire(nn.Module):
    """Convolutions of one input, concatenated."""

    def __init__(self, *channels: int, dim: int = 1) -> None:
        super().__init__()
        self.parts = nn.ModuleList(nn.Conv2d(8, c, 3, padding=1) for c in channels)
        self.dim = dim

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.relu(part(x)) for part in self.parts], self.dim)


class Reused(nn.Module):
    """An input of the concatenation has another use."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.one(x)
        return torch.cat([y, self.other(y)], 1)


class WithInput(nn.Module):
    """The network's own input is concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(8, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, self.one(x)], 1)


class Twice(nn.Module):
    """One tensor, concatenated with itself."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(8, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.one(x)
        return torch.cat([y, y], 1)


class Pooled(nn.Module):
    """Pooling and a convolution are concatenated, and a layer reads both."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(8, 24, 3, padding=1), nn.Conv2d(32, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        both = torch.cat([nn.functional.max_pool2d(x, 3, 1, 1), self.conv(x)], 1)
        return self.last(torch.relu(both))


IN_PLACE = {
    "two": Fire(16, 32),
    "three": Fire(16, 8, 24),
    "no_whole_vectors": Fire(5, 7),
    "height": Fire(8, 8, dim=2),
    "pooled": Pooled(),
}

COPIED = {"reused": Reused(), "with_input": WithInput(), "twice": Twice()}


def is_in_place(network: RelaxNetwork) -> bool:
    rewritten = write_slices_in_place(network.mod)
    functions = [rewritten[variable] for variable in rewritten.get_global_vars()]
    assert not any(ASSEMBLES_SLICES in (f.attrs or {}) for f in functions)
    return "call_tir_inplace" in str(rewritten["main"])


def error_of(model: nn.Module, network: RelaxNetwork, folder: Path) -> float:
    library = folder / "model.so"
    tasks = tune.extract(network.mod)
    with LocalDevice() as device:
        records = tune.RecordStore(folder, HOST, "seconds", device.identity)
        found = tune.tune(tasks, HOST, device, records, tune.TuneOptions(trials=2))
        build_library(network, tune.winners(found), HOST, library)
        x = np.random.default_rng(0).standard_normal(SHAPE).astype("float32")
        with torch.no_grad():
            expected = model(torch.from_numpy(x)).numpy()
        (actual,), _ = device.run(library, [x])
    return relative_error(actual, expected)


@pytest.mark.parametrize("name", IN_PLACE)
def test_inputs_are_written_into_the_result(name: str) -> None:
    network = lowered(IN_PLACE[name], SHAPE)
    assert is_in_place(network)
    assert not any("concat" in task.name for task in tune.extract(network.mod))


@pytest.mark.parametrize("name", COPIED)
def test_what_is_read_elsewhere_is_copied(name: str) -> None:
    network = lowered(COPIED[name], SHAPE)
    assert not is_in_place(network)


@pytest.mark.parametrize("name", ["three", "no_whole_vectors", "pooled"])
def test_the_library_is_right(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = IN_PLACE[name].eval()
    assert error_of(model, lowered(model, SHAPE), tmp_path) < 2e-6


def test_kernels_that_write_a_part_are_checked_on_it(tmp_path: Path) -> None:
    """The unwritten part is NaN in both results, which is no failure."""
    tasks = tune.extract(lowered(Fire(16, 32), SHAPE).mod)
    with LocalDevice() as device:
        records = tune.RecordStore(tmp_path, HOST, "seconds")
        results = tune.tune(tasks, HOST, device, records, tune.TuneOptions(trials=2))
    assert all(result.failed == 0 for result in results)
    assert all(result.best is not None and result.best.error is not None for result in results)
