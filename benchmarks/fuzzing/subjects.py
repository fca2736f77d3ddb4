"""The files that are damaged, and what reads them."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import nn

import tvm_eff
from fuzzing.mutations import change_json, damage
from tvm_eff import models, paths, targets
from tvm_eff.codegen import toolchain
from tvm_eff.deploy import bundle_writer
from tvm_eff.deploy.bundle import Golden, Validation
from tvm_eff.device import MachineIdentity
from tvm_eff.models.weights import load_weights
from tvm_eff.tune import RecordStore
from tvm_eff.tune.records import prune

SECONDS = 10
_MACHINE = MachineIdentity("Linux", "fuzz")

# A library that says when its code runs.
_LIBRARY = """
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
__attribute__((constructor)) static void run(void) {
  const char* path = getenv("TVM_EFF_FUZZ_RAN");
  if (path) close(open(path, O_CREAT | O_WRONLY, 0600));
}
"""

Change = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True)
class Subject:
    """A file that is damaged and then read.

    Attributes
    ----------
    file
        Where it lies in the folder that is copied for each mutation.
    changes
        Ways to damage it.
    read
        Reads it; given that folder.
    consistent
        Whether the bundle's manifest is made to fit the damaged file.
    """

    file: str
    changes: Sequence[Change]
    read: Callable[[Path], object]
    consistent: bool = False


def _load(folder: Path) -> object:
    return tvm_eff.load(folder / "bundle")


def _records(folder: Path) -> object:
    store = RecordStore(folder / "logs", targets.load("host"), "seconds", _MACHINE)
    return store, prune.survey(folder / "logs")


def _target(folder: Path) -> object:
    found = targets.load(folder / "board.toml")
    return found.tvm_target()


def _program(folder: Path) -> object:
    return models.load(str(folder / "net.pt2"))


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()


def _weights(name: str) -> Callable[[Path], object]:
    def read(folder: Path) -> object:
        net = _net()
        load_weights(net, folder / name)
        return net

    return read


_TEXT = (damage, change_json, change_json)
SUBJECTS = (
    Subject("bundle/manifest.json", _TEXT, _load),
    Subject("bundle/golden.npz", (damage,), _load),
    Subject("bundle/golden.npz", (damage,), _load, consistent=True),
    Subject("bundle/model.so", (damage,), _load),
    Subject("logs", (damage,), _records),
    Subject("board.toml", (damage,), _target),
    Subject("net.pt", (damage,), _weights("net.pt")),
    Subject("net.safetensors", (damage,), _weights("net.safetensors")),
    Subject("net.pt2", (damage,), _program),
)


def make(folder: Path) -> None:
    """Write one good file of each kind."""
    source, library = folder / "library.c", folder / "library.so"
    source.write_text(_LIBRARY)
    host = targets.load("host")
    toolchain.compile_shared([source], library, f"{host.toolchain.triple}.{host.toolchain.glibc}")
    x = np.arange(6, dtype="float32").reshape(2, 3)
    bundle_writer.write(
        folder / "bundle",
        library,
        model="fuzzed",
        target=host,
        golden=Golden({"x": x}, {"y": 2 * x}),
        validation=Validation(1e-5, 1e-7, 1, "a fuzzer"),
    )
    shipped = paths.data_folder("tuning_logs")
    records = next(shipped.glob(f"{host.log_name}/seconds/measurements.jsonl"), None)
    records = records or next(shipped.glob("host-*/seconds/measurements.jsonl"))
    lines = records.read_bytes().splitlines(keepends=True)
    log = folder / "logs" / host.log_name / "seconds" / "measurements.jsonl"
    log.parent.mkdir(parents=True)
    name = records.parent.parent.name.encode()
    log.write_bytes(b"".join(lines[:60]).replace(name, host.log_name.encode()))
    shutil.copy(paths.data_folder("targets") / "rasp4.toml", folder / "board.toml")
    net = _net()
    torch.save(net.state_dict(), folder / "net.pt")
    safetensors.torch.save_file(net.state_dict(), folder / "net.safetensors")
    torch.export.save(torch.export.export(net, (torch.zeros(1, 3, 8, 8),)), folder / "net.pt2")


def mutate(number: int, folder: Path) -> Subject:
    """Damage one file in a folder that :func:`make` has filled, as the number says."""
    chance = random.Random(number)
    subject = chance.choice(SUBJECTS)
    path = folder / subject.file
    if path.is_dir():
        path = next(path.rglob("*.jsonl"))
    content = chance.choice(subject.changes)(path.read_bytes(), chance)
    path.write_bytes(content)
    if subject.consistent:
        manifest = folder / "bundle" / "manifest.json"
        data = json.loads(manifest.read_text())
        data["files"][path.name] = hashlib.sha256(content).hexdigest()
        data["sizes"][path.name] = len(content)
        manifest.write_text(json.dumps(data))
    return subject
