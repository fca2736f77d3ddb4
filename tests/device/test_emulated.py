"""What is particular to the emulated board: its parts, and its count of instructions."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from places import BOARDS

from tvm_eff.device import EmulatedDevice, MeasureOptions, debian, emulator_image
from tvm_eff.errors import SetupError
from tvm_eff.tensors import TensorSpec
from tvm_eff.testing import Libraries

UNREACHABLE = ("http://debian.invalid/debian {suite} main",)


def test_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(debian, "_SOURCES", UNREACHABLE)
    with pytest.raises(SetupError, match="check the network"):
        debian.unpack(["libc6"], "arm64", "bookworm", tmp_path / "root", tmp_path / "work")
    assert not (tmp_path / "root").exists()


def test_unsigned_packages_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    repository = tmp_path / "repository" / "dists" / "bookworm"
    repository.mkdir(parents=True)
    (repository / "Release").write_text("Suite: bookworm\nComponents: main\nArchitectures: arm64\n")
    source = f"file://{tmp_path}/repository {{suite}} main"
    monkeypatch.setattr(debian, "_SOURCES", (source,))
    with pytest.raises(SetupError, match="is not signed"):
        debian.unpack(["libc6"], "arm64", "bookworm", tmp_path / "root", tmp_path / "work")


def test_no_apt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match="apt-get and dpkg-deb, which this system lacks"):
        debian.unpack(["libc6"], "arm64", "bookworm", tmp_path / "root", tmp_path / "work")


@pytest.mark.parametrize(
    ("system", "machine", "wrong"),
    [("darwin", "arm64", "needs Linux"), ("linux", "riscv64", "this is riscv64")],
)
def test_other_machines(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str, wrong: str
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    with pytest.raises(SetupError, match=wrong):
        emulator_image.host()


def test_damaged_part_is_made_again_not_used(emulator: None, tmp_path: Path) -> None:
    whole = emulator_image.guest_root("aarch64").path
    copy = tmp_path / "emulator" / whole.name
    shutil.copytree(whole, copy, symlinks=True)
    library = copy / "lib/aarch64-linux-gnu/libc.so.6"
    wanted = library.read_bytes()
    library.write_bytes(wanted[:-1] + b"!")
    subprocess.run(
        [sys.executable, "-c", _MAKE_ROOT],
        env={**os.environ, "TVM_EFF_CACHE": str(tmp_path)},
        check=True,
    )
    assert library.read_bytes() != wanted[:-1] + b"!"
    packages = json.loads((copy / "manifest.json").read_text())["packages"]
    assert {"name", "version", "architecture", "sha256"} == set(packages[0])
    left = {path.name for path in copy.parent.iterdir()}
    assert left == {whole.name, f"{whole.name}.lock"}


_MAKE_ROOT = """
from tvm_eff.device import emulator_image
assert emulator_image.guest_root("aarch64").versions["libc6"]
"""


def test_count_is_the_same_each_time_on_each_board(emulator: None, libraries: Libraries) -> None:
    x = np.random.default_rng(0).random((32, 16), "float32")
    library = libraries.double(BOARDS["aarch64"])
    counts = []
    for _ in range(3):
        with EmulatedDevice("aarch64", "cortex-a72") as board:
            for _ in range(4):
                _, cost = board.call(
                    library,
                    "double",
                    [x],
                    [TensorSpec((32, 16), "float32")],
                    measure=MeasureOptions(),
                )
                assert cost is not None
                assert cost.unit == "instructions"
                counts.append(cost.median)
    assert counts == pytest.approx([counts[0]] * 12, rel=1e-4)


def test_shared_board(emulated_board: EmulatedDevice) -> None:
    emulated_board.health()
    assert emulated_board.where.startswith("emulated cortex-a72 (qemu 7")
