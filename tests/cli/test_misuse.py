"""One table of misuse: each is one message and exit code 2, and nothing is lost or written."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from tvm_eff import targets

LONG = "x" * 5000
DEEP = "/".join(["d"] * 3000)
HUGE = "1,3,1000000000,1000000"

TUNE = ["tune", "--target", "host"]
NET = [*TUNE, "--model", "net.py:Net", "--input-shape", "1,3,8,8"]

MISUSE: list[tuple[list[str], str]] = [
    # Names that are none.
    ([*TUNE, "--model", "squeezenet2"], "unknown model 'squeezenet2'; did you mean"),
    ([*TUNE, "--model", LONG], "unknown model 'xxx"),
    ([*TUNE, "--model", ""], "unknown model ''"),
    ([*TUNE, "--model", "a\nb"], "unknown model"),
    ([*TUNE, "--model", DEEP], "unknown model"),
    ([*TUNE, "--model", f"{LONG}.pt2"], "File name too long"),
    ([*TUNE, "--model", f"{LONG}.py:Net", "--input-shape", "1"], "File name too long"),
    ([*TUNE, "--model", f"{LONG}:Net", "--input-shape", "1"], "there is no module"),
    ([*TUNE, "--model", "net.py:Net"], "what shape does net.py:Net take?"),
    ([*TUNE, "--model", ":"], "names no model"),
    ([*TUNE, "--model", "net.py:"], "names no model"),
    ([*TUNE, "--model", "net.py"], "which model of net.py"),
    ([*NET[:-4], "--model", "net.py:Nat", "--input-shape", "1,3,8,8"], "has no 'Nat'"),
    ([*TUNE, "--model", "no.such.module:Net", "--input-shape", "1"], "there is no module"),
    ([*TUNE, "--model", "net.onnx"], "is a file of another tool"),
    ([*TUNE, "--model", "net.tflite"], "is a file of another tool"),
    ([*TUNE, "--model", "net.pt"], "holds weights"),
    ([*TUNE, "--model", "net.PTH"], "holds weights"),
    ([*TUNE, "--model", "net.safetensors"], "holds weights"),
    ([*TUNE, "--model", "nothing.pt2"], "there is no file nothing.pt2"),
    ([*TUNE, "--model", "folder.pt2"], "folder.pt2"),
    (["tune", "--target", LONG, "--model", "squeezenet"], "xxx"),
    (["tune", "--target", "rasp44", "--model", "squeezenet"], "did you mean"),
    (["tune", "--target", "", "--model", "squeezenet"], "unknown target"),
    (["tune", "--target", "nothing.toml", "--model", "squeezenet"], "nothing.toml"),
    (["tune", "--target", f"{LONG}.toml", "--model", "squeezenet"], "File name too long"),
    (["tune", "--target", "folder.toml", "--model", "squeezenet"], "folder.toml"),
    (["tune", "--target", "fifo.toml", "--model", "squeezenet"], "it is no regular file"),
    ([*NET, "--rpc", "127.0.0.1:1", "--key-file", "fifo"], "it is no regular file"),
    ([*NET, "--logs", "logs"], "it is no regular file"),
    (["tune", "--target", "host"], "--model"),
    (["tune", "--model", "squeezenet"], "--target"),
    (["tune"], "--target"),
    ([*NET, "--nonsense"], "--nonsense"),
    # Shapes and dtypes.
    ([*NET[:-1], HUGE], "at most 2.15e+09 are possible"),
    ([*NET[:-1], "1,3,0,8"], "'1,3,0,8' is not a shape"),
    ([*NET[:-1], "-1,3,8,8"], "expected one argument"),
    ([*NET[:-1], "1,3,8"], "Net"),
    ([*NET[:-1], "1," * 3000 + "1"], "3001 dimensions"),
    ([*NET[:-1], "9" * 5000], "is not a shape"),
    ([*NET[:-1], "a,b"], "is not a shape"),
    ([*NET[:-1], ""], "is not a shape"),
    ([*NET, "--input-shape", "1,3,8,8"], "Net"),
    ([*NET, "--input-dtype", "float31"], "unknown input dtype 'float31'"),
    ([*NET, "--input-dtype", "float32", "--input-dtype", "float32"], "2 input dtypes for 1"),
    ([*NET, "--width", "0.5"], "--width is not for a model of your own"),
    ([*TUNE, "--model", "mobilenet", "--width", "nan"], "width"),
    ([*TUNE, "--model", "mobilenet", "--width", "-1"], "width"),
    ([*TUNE, "--model", "mobilenet", "--width", "1e9"], ""),
    ([*TUNE, "--model", "mobilenet", "--resolution", "100000000"], "possible"),
    ([*TUNE, "--model", "mobilenet", "--resolution", "0"], "'0' is not a whole number"),
    ([*TUNE, "--model", "squeezenet", "--dtype", "float16"], "float16"),
    ([*TUNE, "--model", "squeezenet", "--dtype", "int4"], "int4"),
    # Weights.
    ([*NET, "--weights", "nothing.pt"], "nothing.pt"),
    ([*NET, "--weights", f"{LONG}.pt"], "File name too long"),
    ([*NET, "--weights", "."], "Is a directory"),
    ([*NET, "--weights", "fifo"], "it is no regular file"),
    ([*NET, "--weights", "/dev/zero"], "it is no regular file"),
    ([*NET, "--weights", "empty.pt"], "cannot be read as weights"),
    ([*NET, "--weights", "numbers.pt"], "has 0 for the name of a weight"),
    ([*NET, "--weights", "meta.pt"], "has no values"),
    ([*NET, "--weights", "sparse.pt"], "is sparse"),
    ([*NET, "--weights", "list.pt"], "holds no table of tensors"),
    ([*NET, "--weights", "other.pt"], "another network's"),
    ([*NET, "--weights", "code.pt"], "could run code"),
    ([*NET, "--weights", "empty.safetensors"], "cannot be read as weights"),
    # Models that cannot be compiled.
    ([*TUNE, "--model", "net.py:quantized", "--input-shape", "1,3,8,8"], "quantized"),
    ([*TUNE, "--model", "net.py:raises", "--input-shape", "1,3,8,8"], "out of ideas"),
    ([*TUNE, "--model", "net.py:needs", "--input-shape", "1,3,8,8"], "needs arguments (size)"),
    ([*TUNE, "--model", "net.py:number", "--input-shape", "1,3,8,8"], "gives a int"),
    ([*TUNE, "--model", "net.py:meta", "--input-shape", "1,3,8,8"], "meta"),
    ([*TUNE, "--model", "broken.py:Net", "--input-shape", "1,3,8,8"], "broken.py"),
    # How much, how long, where.
    ([*NET, "--trials", "0"], "'0' is not a whole number of at least 1"),
    ([*NET, "--trials", "many"], "'many' is not a whole number"),
    ([*NET, "--trials", "9" * 5000], ""),
    ([*NET, "--budget", "soon"], "'soon' is not a span of time"),
    ([*NET, "--budget", "-1s"], "expected one argument"),
    ([*NET, "--budget", "inf"], "is not a span of time"),
    ([*NET, "--until-roofline", "2"], "is not a share"),
    ([*NET, "--workers", "0"], "is not a whole number"),
    ([*NET, "--inputs", "-1"], ""),
    ([*NET, "--logs", LONG], "File name too long"),
    ([*NET, "--logs", "net.py"], "net.py"),
    ([*NET, "--logs", "/proc/nothing"], "/proc/nothing"),
    ([*NET, "--output", LONG], "File name too long"),
    ([*NET, "--output", "net.py"], "net.py"),
    ([*NET, "--output", "/proc/nothing"], "/proc/nothing"),
    ([*NET, "--dump-ir", "."], "is not empty"),
    ([*NET, "--dump-ir", LONG], "File name too long"),
    ([*NET, "--rpc", "board"], "is not an address"),
    ([*NET, "--rpc", "board:99999"], "is not a port"),
    ([*NET, "--rpc", "127.0.0.1:1"], "nothing listens on 127.0.0.1:1"),
    ([*NET, "--rpc", f"{LONG}:1"], "is not known"),
    ([*NET, "--rpc", "127.0.0.1:1", "--key-file", "nothing"], "cannot read nothing: No such file"),
    ([*NET, "--rpc", "127.0.0.1:1", "--key-file", "empty.pt"], "must hold one word"),
    ([*NET, "--key", "a", "--key-file", "b"], "not allowed with"),
    # The other verbs.
    (["bench", "nothing"], "there is no bundle nothing"),
    (["bench", LONG], "File name too long"),
    (["bench", "net.py"], "is a file"),
    (["bench", "."], "is not a bundle"),
    (["bench", "fifo"], "fifo"),
    (["bench"], "bundle"),
    (["bench", ".", "--threads", "0"], "is not a whole number"),
    (["bench", ".", "--repeat", "x"], "is not a whole number"),
    (["bench", ".", "--rpc", "a:1", "--emulated"], "not allowed with"),
    (["cost", "nothing"], "unknown model 'nothing'"),
    (["cost", LONG], "unknown model"),
    (["cost", "mobilenet", "--resolution", "99999999"], ""),
    (["models", "nothing"], "nothing"),
    (["records"], "verb"),
    (["records", "nothing"], "nothing"),
    (["records", "list", "--logs", LONG], "File name too long"),
    (["records", "prune", "--target", LONG], ""),
    (["records", "prune", "--target", "host-avx3"], "host-avx3"),
    (["records", "prune", "--target", "rasp4", "--keep", "0"], "is not a whole number"),
    (["doctor", "nothing"], "nothing"),
    (["board-server"], "--arch"),
    (["board-server", "--arch", "aarch46"], "unknown architecture 'aarch46'; did you mean"),
    (["board-server", "--arch", "aarch64", "--glibc", "new"], "is not a version of glibc"),
    (["opencl-plugin", "nothing"], "nothing"),
    (["study", "--target", "host", "--sizes", "1,2"], "is not a shape"),
    (["study", "--target", "host", "--sizes", "64,128,1000000000"], "is not a shape"),
    (["study", "--target", "host", "--sizes", "9" * 5000], "is not a shape"),
    (["study", "--target", "nothing"], "unknown target"),
    (["study", "--target", "host", "--families", "nothing"], "nothing"),
]

CODE = """
from torch import nn
import torch

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3), nn.ReLU())

def quantized():
    model = torch.ao.quantization.QuantWrapper(Net()).eval()
    model.qconfig = torch.ao.quantization.get_default_qconfig("fbgemm")
    prepared = torch.ao.quantization.prepare(model)
    prepared(torch.zeros(1, 3, 8, 8))
    return torch.ao.quantization.convert(prepared)

def raises():
    raise RuntimeError("out of ideas")

def needs(size):
    return Net()

def number():
    return 7

def meta():
    return Net().to("meta")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import os

    monkeypatch.chdir(tmp_path)
    # To import net.py its folder is put there.
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name, text in {"net.py": CODE, "broken.py": "class Net(:\n"}.items():
        (tmp_path / name).write_text(text)
    for name in ("empty.pt", "empty.safetensors"):
        (tmp_path / name).touch()
    for name in ("folder.pt2", "folder.toml"):
        (tmp_path / name).mkdir()
    for name in ("fifo", "fifo.toml"):
        os.mkfifo(tmp_path / name)
    records = tmp_path / "logs" / targets.load("host").log_name / "seconds"
    records.mkdir(parents=True)
    os.mkfifo(records / "measurements.jsonl")
    weights = {"0.weight": torch.zeros(4, 3, 3, 3), "0.bias": torch.zeros(4)}
    dense = weights["0.weight"]
    saved: dict[str, object] = {
        "numbers.pt": {0: dense, 1: weights["0.bias"]},
        "meta.pt": {**weights, "0.weight": dense.to("meta")},
        "sparse.pt": {**weights, "0.weight": dense.to_sparse()},
        "list.pt": [dense],
        "other.pt": {"weight": dense},
        "code.pt": nn.ReLU(),
    }
    for name, content in saved.items():
        torch.save(content, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(
    ("line", "wanted"), MISUSE, ids=[re.sub(r"\W+", "_", " ".join(m[0]))[-60:] for m in MISUSE]
)
def test_misuse(
    line: list[str], wanted: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = {path.name for path in folder.iterdir()}
    verb, *words = line
    module = "study.command" if verb == "study" else f"tvm_eff.cli.{verb.replace('-', '_')}"
    try:
        code = importlib.import_module(module).main(words)
    except SystemExit as left:  # argparse
        code = left.code
    told = capfd.readouterr().err
    assert code == 2, told
    assert "Traceback" not in told
    assert wanted in told
    assert len(told) < 20_000
    assert {path.name for path in folder.iterdir()} - before <= {"__pycache__", "dist"}
    assert not list(folder.glob("dist/*"))
