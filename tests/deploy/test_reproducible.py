"""The same network from the same records, built twice, is the same bundle byte for byte."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from made_bundles import Maker

from tvm_eff.deploy.bundle_writer import archive_path

ROOT = Path(__file__).resolve().parents[2]
NET = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 1))
"""


def build(
    folder: Path, temporary: Path, *words: str, seed: int = 0, epoch: str = "1000000000"
) -> subprocess.CompletedProcess[str]:
    """Build in a process of its own, in a folder of its own."""
    folder.mkdir(exist_ok=True)
    (folder / "net.py").write_text(NET)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "PYTHONHASHSEED": str(seed),
        "TMPDIR": str(temporary),
        "SOURCE_DATE_EPOCH": epoch,
    }
    command = [sys.executable, "-m", "tvm_eff.cli", "tune", "--model", "net.py:net"]
    command += ["--input-shape", "1,3,16,16", "--trials", "1", *words]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("epoch", ["yesterday", "1" * 30])
def test_a_date_that_is_none(tmp_path: Path, temporary: Path, epoch: str) -> None:
    done = build(tmp_path, temporary, "--target", "host", "--logs", "logs", epoch=epoch)
    assert done.returncode == 2
    assert f"SOURCE_DATE_EPOCH is '{epoch}'; set it to seconds since 1970" in done.stderr
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize(
    ("target", "runtime"),
    [("host", "virtual-machine"), ("rasp4", "native")],
)
def test_every_byte(
    tmp_path: Path, temporary: Path, emulator: None, target: str, runtime: str
) -> None:
    words = ["--target", target, "--runtime", runtime, "--logs", str(tmp_path / "logs")]
    found = []
    for seed, name in enumerate(("one", "another-place")):
        (temporary / name).mkdir()
        done = build(tmp_path / name, temporary / name, *words, seed=seed)
        assert done.returncode == 0, done.stderr
        folder = tmp_path / name / "dist" / f"net-{target}"
        found.append({path.name: path.read_bytes() for path in folder.iterdir()})
    first, second = found
    measured = [json.loads(each.pop("measurement.json")) for each in found]
    assert [each["date"] for each in measured] == ["2001-09-09"] * 2
    assert first.keys() == second.keys() >= {"model.so", "manifest.json", "golden.npz"}
    assert [name for name in first if first[name] != second[name]] == []


def test_an_archive_says_nothing_of_who_made_it(maker: Maker, tmp_path: Path) -> None:
    archives = []
    for name in ("one", "other"):
        made = maker.write(tmp_path / name / "b", archive=True)
        archives.append(archive_path(made.folder).read_bytes())
        os.utime(made.library, (0, 0))
    assert archives[0] == archives[1]
