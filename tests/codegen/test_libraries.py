"""What is built runs on each board: compiled and linked for it, run on its emulated processor."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import tvm
from kernels import HOST, lowered, small_convolution
from records import most_promising
from torch import nn
from tvm import relax

from tvm_eff import schedules, targets
from tvm_eff.codegen import build_kernel
from tvm_eff.deploy.library import build_library
from tvm_eff.device import EmulatedDevice
from tvm_eff.errors import BuildError
from tvm_eff.targets import Target
from tvm_eff.tensors import TOLERANCE, relative_error

BOARDS = ["rasp3", "rasp3-armv7", "rasp4", "rasp5", "rk3399", "rk3588"]
AARCH64, ARM = 183, 40  # e_machine of ELF
SHAPE = (1, 3, 17, 17)


class Small(nn.Module):
    """Every kind of layer that a rule schedules, and softmax, which none does."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1, groups=16),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            nn.Conv2d(16, 24, 1),
        )
        self.classifier = nn.Linear(24, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.features(x)
        x = torch.cat([x, torch.relu(x)], 1)[:, 12:36]
        return torch.softmax(self.classifier(x.mean((2, 3))), 1)


def built(model: nn.Module, target: Target, folder: Path) -> Path:
    """Build a network with the most promising schedule of every kernel."""
    network = lowered(model, SHAPE, target=target)
    library = folder / "model.so"
    build_library(network, most_promising(network, target), target, library)
    return library


def machine_of(library: Path) -> int:
    """Return the processor an ELF file is for."""
    return int.from_bytes(library.read_bytes()[18:20], "little")


def newest_glibc(library: Path) -> tuple[int, ...]:
    """Return the newest version of glibc whose symbols a library asks for; 0 if none."""
    versions = re.findall(rb"GLIBC_([\d.]+)", library.read_bytes())
    return max((tuple(map(int, version.split(b"."))) for version in versions), default=(0,))


def test_every_board_is_here() -> None:
    # A GPU's kernels run on the OpenCL devices of tests/opencl.
    processors = [name for name in targets.names() if targets.load(name).gpu is None]
    assert processors == sorted(["host", *BOARDS])


@pytest.mark.parametrize("name", BOARDS)
def test_network_on_its_emulated_board(name: str, emulator: None, tmp_path: Path) -> None:
    torch.manual_seed(0)
    target, model = targets.load(name), Small().eval()
    library = built(model, target, tmp_path)
    assert machine_of(library) == (ARM if name.endswith("armv7") else AARCH64)
    assert newest_glibc(library) <= tuple(map(int, target.toolchain.glibc.split(".")))

    x = np.random.default_rng(0).standard_normal(SHAPE).astype("float32")
    with torch.no_grad():
        wanted = model(torch.from_numpy(x)).numpy()
    assert target.emulator is not None
    with EmulatedDevice(target.emulator.arch, target.emulator.cpu) as device:
        (actual,), _ = device.run(library, [x])
    assert relative_error(actual, wanted) <= TOLERANCE


@pytest.mark.parametrize("name", ["host", "rasp4"])
def test_folder_that_is_not_there(name: str, tmp_path: Path) -> None:
    target = targets.load(name)
    sch = schedules.apply(small_convolution().func, schedules.UNSCHEDULED, target)
    with pytest.raises(BuildError, match="absent"):
        build_kernel(sch, target, tmp_path / "absent" / "kernel.so")


def test_schedule_that_cannot_be_lowered(tmp_path: Path) -> None:
    # A thread of a GPU means nothing to a CPU.
    sch = schedules.apply(small_convolution().func, schedules.UNSCHEDULED, HOST)
    sch.bind(sch.get_loops(sch.get_sblock("conv2d_nhwc"))[1], "threadIdx.x")
    with pytest.raises(BuildError, match="cannot be compiled"):
        build_kernel(sch, HOST, tmp_path / "kernel.so")
    assert not (tmp_path / "kernel.so").exists()


def test_unoptimized_libraries_are_no_system_libraries(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    quick = replace(HOST, tvm={**HOST.tvm, "opt-level": 0})
    model = Small().eval()
    loaded = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        loaded.append(tvm.runtime.load_module(str(built(model, quick, tmp_path / name))))
    assert capfd.readouterr().err == ""
    x = torch.randn(SHAPE)
    found = relax.VirtualMachine(loaded[1], tvm.cpu())["main"](tvm.runtime.tensor(x.numpy()))
    assert relative_error(found.numpy(), model(x).detach().numpy()) <= TOLERANCE
