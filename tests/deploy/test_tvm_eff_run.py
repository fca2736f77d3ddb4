"""``tvm_eff_run``: what is wrong has a message and a code, and what is right Python's figures."""

from __future__ import annotations

import io
import json
import os
import re
import resource
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from native_bundles import make, on_board, run, seal
from torch import nn

import tvm_eff
from tvm_eff.deploy import bundle
from tvm_eff.deploy.bundle import Bundle
from tvm_eff.errors import ValidationError
from tvm_eff.targets.detect import usable_cores

NEEDED = ("model.so", "golden.npz", "manifest.json")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make(tmp_path_factory.mktemp("runner"))


@pytest.fixture
def copied(made: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made.folder, tmp_path / "copied"))


def refusal(folder: Path, *words: str, code: int) -> str:
    done = run(folder / "tvm_eff_run", folder, *words)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    return done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--thread", "2"], "there is no option --thread; see --help"),
        (["-x"], "there is no option -x"),
        (["--threads"], "--threads has no value"),
        (["--threads", "0"], "--threads is 0; give a number from 1"),
        (["--threads", "2x"], "--threads is 2x"),
        (["--threads=99999999999999999999"], "--threads is 99999999999999999999"),
        (["--threads", "1000"], r"--threads 1000 is more than the \d+ cores"),
        (["--cores", "1023"], r"--cores names core 1023, and this process may use [\d,-]+"),
        (["--cores", "1-0"], "--cores is 1-0; give numbers of cores"),
        (["--cores", ""], "--cores is ; give numbers of cores"),
        (["--cores", "0,"], "--cores is 0,;"),
        (["--cores=0-1-2"], "--cores is 0-1-2"),
        (["--repeat", "-1"], "--repeat is -1"),
        (["--warm-up", "1e3"], "--warm-up is 1e3"),
        (["again"], "are two bundles; give one"),
    ],
)
def test_what_is_typed_wrong(words: list[str], message: str, made: Bundle) -> None:
    assert re.search(message, refusal(made.folder, *words, code=2))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("none", "there is no bundle .*none: No such file"),
        ("golden.npz", "is a file; give a bundle's folder"),
        ("", "is not a bundle: it has no manifest.json"),
        ("x" * 5000, "there is no bundle x+: File name too long"),
    ],
)
def test_no_bundle(path: str, message: str, copied: Path) -> None:
    runner = shutil.move(copied / "tvm_eff_run", copied.parent / "tvm_eff_run")
    (copied / "manifest.json").unlink()
    done = run(runner, path if len(path) > 1000 else copied / path)
    assert done.returncode == 2 and re.search(message, done.stderr), done.stderr


@pytest.mark.parametrize("name", [*NEEDED, "tvm_eff.h"])
@pytest.mark.parametrize("kind", ["cut short", "one bit", "missing", "fifo", "folder"])
def test_a_damaged_file(name: str, kind: str, copied: Path) -> None:
    path = copied / name
    content = path.read_bytes()
    if kind == "cut short":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "one bit":
        path.write_bytes(content[:-9] + bytes([content[-9] ^ 4]) + content[-8:])
    else:
        path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    missing_manifest = (name, kind) == ("manifest.json", "missing")
    message = refusal(copied, code=2 if missing_manifest else 1)
    assert name in message and message.endswith((" again\n", " wrote\n"))


@pytest.mark.parametrize(
    ("sums", "message"),
    [
        (b"", "SHA256SUMS has no model.so"),
        (b"0" * 63 + b"  model.so\n", "SHA256SUMS is damaged"),
        (b"0" * 64 + b"  ../model.so\n", "SHA256SUMS is damaged"),
        (b"0" * 64 + b"  \n", "SHA256SUMS is damaged"),
        (b"0" * 64 + b"  model.so", "SHA256SUMS is damaged"),
        (b"0" * 64 + b"  model.so\n", "model.so is damaged: its SHA-256"),
        (b"\0" * 700, "SHA256SUMS is damaged"),
    ],
)
def test_damaged_checksums(sums: bytes, message: str, copied: Path) -> None:
    (copied / "SHA256SUMS").write_bytes(sums)
    assert message in refusal(copied, code=1)


def test_no_checksums(copied: Path) -> None:
    (copied / "SHA256SUMS").unlink()
    assert "SHA256SUMS cannot be read: No such file" in refusal(copied, code=1)


@pytest.mark.parametrize(
    ("written", "code", "message"),
    [
        ("99", 2, r"has format 99, and this program reads formats up to \d+; use the tvm_eff_run"),
        ("0", 1, "does not say its format"),
        ('"six"', 1, "does not say its format"),
    ],
)
def test_a_manifest_of_another_format(written: str, code: int, message: str, copied: Path) -> None:
    manifest = copied / "manifest.json"
    manifest.write_text(
        re.sub(r'"format": \d+', f'"format": {written}', manifest.read_text(), count=1)
    )
    seal(copied)
    assert re.search(message, refusal(copied, code=code))


def test_another_architecture(copied: Path) -> None:
    library = bytearray((copied / "model.so").read_bytes())
    library[18:20] = (243).to_bytes(2, "little")  # RISC-V
    (copied / "model.so").write_bytes(library)
    seal(copied)
    assert "is for another architecture (ELF machine 243, and this is 62)" in refusal(
        copied, code=2
    )


@pytest.mark.parametrize("content", [b"", b"text" * 30])
def test_what_is_no_library(content: bytes, copied: Path) -> None:
    (copied / "model.so").write_bytes(content)
    seal(copied)
    assert "model.so is no library of Linux" in refusal(copied, code=2)


def test_a_library_of_the_virtual_machine(copied: Path, tmp_path: Path) -> None:
    made = tvm_eff.compile(
        nn.ReLU(), torch.ones(1, 3), runtime="virtual-machine", measure=False, output=tmp_path
    )
    shutil.copy(made.library, copied)
    seal(copied)
    message = refusal(copied, code=2)
    assert "model.so cannot be loaded: " in message


def compressed(arrays: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def stored(arrays: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def changed(arrays: dict[str, np.ndarray], **others: np.ndarray | None) -> bytes:
    both = {**arrays, **others}
    return stored({name: each for name, each in both.items() if each is not None})


def columns_first(arrays: dict[str, np.ndarray]) -> bytes:
    return changed(arrays, input_0=np.asfortranarray(arrays["input_0"]))


GOLDEN: dict[str, tuple[Callable[[dict[str, np.ndarray]], bytes], str]] = {
    "nothing": (lambda arrays: b"", "input_0"),
    "no archive": (lambda arrays: b"junk" * 100, "input_0"),
    "compressed": (compressed, "input_0"),
    "columns first": (columns_first, "input_0"),
    "a missing output": (lambda arrays: changed(arrays, output_1=None), "output_1"),
    "no rule": (lambda arrays: changed(arrays, allowed_errors=None), "allowed_errors"),
    "another dtype": (
        lambda arrays: changed(arrays, input_0=arrays["input_0"].astype("float64")),
        "input_0",
    ),
    "another byte order": (
        lambda arrays: changed(arrays, input_0=arrays["input_0"].astype(">f4")),
        "input_0",
    ),
    "another shape": (lambda arrays: changed(arrays, input_0=arrays["input_0"][0]), "input_0"),
    "cut short": (lambda arrays: stored(arrays)[:-1], "input_0"),
    "no content": (lambda arrays: stored(arrays)[1000:], "input_0"),
}


@pytest.mark.parametrize("kind", GOLDEN)
def test_golden_files_that_are_not_as_numpy_writes_them(kind: str, copied: Path) -> None:
    path = copied / "golden.npz"
    with np.load(path) as file:
        arrays = dict(file)
    write, named = GOLDEN[kind]
    path.write_bytes(write(arrays))
    seal(copied)
    message = refusal(copied, code=1)
    assert f"golden.npz does not hold {named} as numpy.savez writes it" in message


def with_output(folder: Path, number: int, change: Callable[[np.ndarray], Any]) -> None:
    """Change a golden output in place, and what the bundle says of its files."""
    path = folder / "golden.npz"
    with np.load(path) as file:
        arrays = dict(file)
    change(arrays[f"output_{number}"])
    path.write_bytes(stored(arrays))
    manifest = json.loads((folder / "manifest.json").read_text())
    seal(folder)
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        digest, _, name = line.partition("  ")
        if name in manifest["files"]:
            manifest["files"][name] = digest
            manifest["sizes"][name] = (folder / name).stat().st_size
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2))
    seal(folder)


def put(place: int, value: Any, array: np.ndarray) -> None:
    array.flat[place] = value


@pytest.mark.parametrize(
    ("number", "change"),
    [
        (0, lambda array: np.add(array, 0.01, out=array)),
        (0, partial(put, 3, np.nan)),
        (0, partial(put, 3, -np.inf)),
        (1, partial(put, 0, -1)),
        (2, lambda array: np.logical_not(array, out=array)),
    ],
)
def test_a_wrong_output(number: int, change: Callable[[np.ndarray], Any], copied: Path) -> None:
    with_output(copied, number, change)
    found = refusal(copied, code=1)
    with pytest.raises(ValidationError) as raised:
        tvm_eff.load(copied).check()
    python = re.search(r"error is (\S+) of .* error of (\S+) is allowed", str(raised.value))
    ours = re.search(r"error is (\S+) of .* error of (\S+) is allowed", found)
    assert f"output {number} is wrong" in found and ours is not None
    if python is None:  # it says how many values are not finite
        assert ours.group(1) == "inf"
    else:
        assert ours.groups() == python.groups()


def test_another_class(copied: Path) -> None:
    path = copied / "golden.npz"
    with np.load(path) as file:
        arrays = dict(file)
    scores = arrays["output_0"]
    first, second = np.argsort(scores[0])[-2:]
    scores[0, [first, second]] = scores[0, [second, first]]
    rule = {"allowed_errors": np.full(3, 10.0), "same_class": np.array(True)}
    path.write_bytes(stored({**arrays, **rule}))
    seal(copied)
    assert "output 0, row 0 is of another class" in refusal(copied, code=1)


def test_no_memory(tmp_path: Path) -> None:
    # Between the two lie 64 MB.
    wide = nn.Sequential(nn.Conv2d(1, 64, 1), nn.Sigmoid(), nn.Conv2d(64, 1, 1))
    made = make(tmp_path, wide, name="wide", shape=(1, 1, 512, 512))

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (40 << 20, 40 << 20))

    words = (made.folder / "tvm_eff_run", made.folder, "--threads", "1")
    done = run(*words, preexec_fn=limited)
    assert done.returncode == 1
    assert re.search("there is no memory for an arena of .* bytes", done.stderr), done.stderr
    assert run(*words, "--check").returncode == 0


def test_help(made: Bundle) -> None:
    done = run(made.folder / "tvm_eff_run", "--help")
    assert done.returncode == 0 and done.stdout.startswith("usage: tvm_eff_run [BUNDLE] [options]")


def test_a_full_disk(made: Bundle) -> None:
    with Path("/dev/full").open("w") as full:
        done = run(
            made.folder / "tvm_eff_run", made.folder, capture_output=False, stdout=full,
            stderr=subprocess.PIPE,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "error: the report cannot be written\n")


def test_the_report(made: Bundle) -> None:
    done = run("./tvm_eff_run", "--repeat", "7", "--profile", cwd=made.folder)
    assert (done.returncode, done.stderr) == (0, "")
    for line in (
        r"scores for host\n",
        r"outputs     correct: largest error \S+ of the spread, \S+ allowed\n",
        rf"threads     {usable_cores()}, on cores [\d,-]+\n",
        r"start       \S+ ms to load, \S+ ms for the first inference\n",
        r"latency     p10 \S+ ms, p50 \S+ ms, p90 \S+ ms, p99 \S+ ms\n",
        r"least \S+ ms, mean \S+ ms \(7 inferences\)\n",
        r"memory      \d+\.\d MB at its peak\n",
        r"clock       .* before, .* after\n",
        r"temperature .* before, .* after\n",
        r"throttled   .* before, .* after\n",
        r"ms  share  calls  kernel\n",
        r" +\d+\.\d+ +\d+\.\d% +1  fused_conv2d\w*  \(features\.0\)\n",
    ):
        assert re.search(line, done.stdout), f"{line} in:\n{done.stdout}"


def report_of(*words: str | Path) -> dict[str, Any]:
    done = run(*words, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    return dict(json.loads(line))


def test_the_report_in_json(made: Bundle) -> None:
    core = str(min(os.sched_getaffinity(0)))
    words = ("--threads=1", "--cores", core, "--repeat=20", "--warm-up=0", "--profile")
    found = report_of(made.folder / "tvm_eff_run", made.folder, *words)
    loaded = bundle.load(made.folder)
    assert found["largest_error"] == pytest.approx(loaded.check(), rel=1e-8, abs=0)
    assert found["model"] == "scores" and found["target"] == "host"
    assert (found["threads"], found["cores"], len(found["values"])) == (1, core, 20)
    for percent in (10, 50, 90, 99):
        expected = float(np.percentile(found["values"], percent)) * 1e3
        assert found[f"p{percent}_ms"] == pytest.approx(expected, rel=1e-6)
    assert found["min_ms"] == pytest.approx(min(found["values"]) * 1e3)
    assert found["mean_ms"] == pytest.approx(float(np.mean(found["values"])) * 1e3)
    assert 1e6 < found["peak_memory_bytes"] < 50e6
    assert {each["calls"] for each in found["kernels"]} == {1}
    assert {"features.0", "features.2"} <= {each["modules"] for each in found["kernels"]}
    assert found["before"].keys() == found["after"].keys() >= {"celsius", "throttled"}
    only = report_of(made.folder / "tvm_eff_run", made.folder, "--check")
    assert "p50_ms" not in only and only["largest_error"] == found["largest_error"]


def test_sha256sum_reads_the_checksums(made: Bundle) -> None:
    done = run("sha256sum", "--check", "--strict", "SHA256SUMS", cwd=made.folder)
    assert done.returncode == 0, done.stderr
    named = {line.partition(": ")[0] for line in done.stdout.splitlines()}
    assert named == {each.name for each in made.folder.iterdir()} - {
        "SHA256SUMS",
        "measurement.json",
    }


def test_a_processor_that_lacks_a_feature(tmp_path: Path) -> None:
    made = make(tmp_path, target="rasp5")
    assert "asimddp" in made.manifest.target.cpu_features
    words = (made.folder / "tvm_eff_run", made.folder, "--check")
    board = on_board(made)
    assert run(*board, *words).returncode == 0
    done = run(*board[:-1], "cortex-a53", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(r"built for rasp5, and this processor lacks \w+: build it", done.stderr)


@pytest.mark.parametrize("target", ["rasp4", "rasp3-armv7"])
def test_on_a_board_without_python(target: str, tmp_path: Path) -> None:
    made = make(tmp_path, target=target, form="exe")
    for words in ((made.folder / "tvm_eff_run", made.folder), (made.folder / "model",)):
        found = report_of(*on_board(made), *words, "--threads", "1", "--repeat", "2")
        assert found["target"] == target and 0 <= found["largest_error"] < 1e-5
        assert len(found["values"]) == 2
    golden = made.folder / "golden.npz"
    golden.write_bytes(golden.read_bytes()[:-1])
    done = run(*on_board(made), made.folder / "tvm_eff_run", made.folder)
    assert done.returncode == 1 and "golden.npz is damaged" in done.stderr
