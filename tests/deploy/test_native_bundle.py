"""A native library, the whole way: a bundle that Python without TVM and C run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import tvm_eff
from tvm_eff.cli import tune
from tvm_eff.codegen import toolchain
from tvm_eff.deploy.bundle import Bundle
from tvm_eff.errors import BundleError, UsageError

PAGE = Path(__file__).resolve().parents[2] / "docs" / "native.md"

NET = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(8, 4))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("native")
    (folder / "net.py").write_text(NET)
    words = ["--target", "host", "--model", f"{folder / 'net.py'}:net", "--input-shape"]
    words += ["1,3,16,16", "--trials", "2"]
    words += ["--output", str(folder / "dist"), "--logs", str(folder / "logs")]
    assert tune.main(words) == 0
    from tvm_eff.deploy.bundle import read

    return read(folder / "dist" / "net-host")


def image() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((1, 3, 16, 16)).astype("float32")


def test_an_unknown_runtime_and_a_gpu(tmp_path: Path) -> None:
    module, x = nn.ReLU(), torch.ones(1, 3)
    with pytest.raises(UsageError, match="unknown runtime 'nativ'; did you mean 'native'"):
        tvm_eff.compile(module, x, runtime="nativ", output=tmp_path)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"opencl-host runs kernels on the GPU.*--runtime out"):
        tvm_eff.compile(module, x, target="opencl-host", runtime="native", output=tmp_path)


@pytest.mark.parametrize("options", [{"runtime": "virtual-machine"}, {"target": "opencl-host"}])
def test_where_no_weights_are_packed_at_load(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"packs no weights when .* leave --pack-weights out"):
        tvm_eff.compile(
            nn.ReLU(), torch.ones(1, 3), pack_weights="load", output=tmp_path, **options
        )
    with pytest.raises(UsageError, match="unknown place to pack weights 'laod'; did you mean"):
        tvm_eff.compile(
            nn.ReLU(),
            torch.ones(1, 3),
            pack_weights="laod",  # type: ignore[arg-type]
            output=tmp_path,
        )


def test_the_bundle(made: Bundle) -> None:
    assert made.manifest.runtime == "native"
    assert {each.name for each in made.folder.iterdir()} == {
        *("model.so", "manifest.json", "golden.npz", "plan.json", "tvm_eff.h", "tvm_eff_open.h"),
        *("SHA256SUMS", "tvm_eff_run", "tvm_eff_model-config.cmake", "measurement.json"),
    }
    assert made.check() <= made.error
    report = made.benchmark(repeat=2)
    assert report.largest_error <= 1e-5


def test_inputs_that_do_not_fit(made: Bundle) -> None:
    loaded = tvm_eff.load(made.folder)
    right = loaded(image())
    for wrong in (image()[0], image().astype("float64"), image().tolist()):
        with pytest.raises(BundleError, match="the input input "):
            loaded(wrong)
    np.testing.assert_array_equal(loaded(image()[:, :, ::-1].copy()[:, :, ::-1]), right)
    np.testing.assert_array_equal(loaded(torch.from_numpy(image())), right)


def test_inputs_and_outputs_by_name(made: Bundle) -> None:
    loaded = tvm_eff.load(made.folder)
    right = loaded(image())
    (name,), (given,) = loaded.manifest.inputs, loaded.manifest.outputs
    np.testing.assert_array_equal(loaded(**{name.name: image()}), right)
    np.testing.assert_array_equal(loaded.run({name.name: image()})[given.name], right)
    for wrong, message in (
        ({}, f"was not given its input '{name.name}'"),
        ({"imput": image()}, f"net has no input 'imput'; did you mean '{name.name}'"),
    ):
        with pytest.raises(BundleError, match=message):
            loaded.run(wrong)
    with pytest.raises(BundleError, match=f"net has no input '{name.name}' left"):
        loaded(image(), **{name.name: image()})


def test_threads_and_cores(made: Bundle) -> None:
    right = tvm_eff.load(made.folder)(image())
    core = min(os.sched_getaffinity(0))
    np.testing.assert_array_equal(tvm_eff.load(made.folder, threads=1)(image()), right)
    np.testing.assert_array_equal(tvm_eff.load(made.folder, cores=[core])(image()), right)
    cores = len(os.sched_getaffinity(0))
    wrongs: list[tuple[dict[str, Any], str]] = [
        ({"threads": 0}, "threads is 0; give at least 1"),
        ({"threads": 1.5}, "threads is a float; give a whole number"),
        ({"threads": 4096}, f"4096 threads are asked for, and this process may use {cores} cores"),
        ({"cores": [4095]}, "this process may not use core 4095"),
        ({"cores": ["a"]}, "each of cores is a str; give a whole number"),
    ]
    for wrong, message in wrongs:
        with pytest.raises(UsageError, match=message):
            tvm_eff.load(made.folder, **wrong)


def test_what_lies_in_order_is_read_where_it_is(made: Bundle) -> None:
    class Spy:
        def __init__(self) -> None:
            self.read: list[int] = []

        def __call__(self, _: Any, given: Any, made: Any) -> int:
            self.read.append(given[0])
            return run(_, given, made)

    loaded = tvm_eff.load(made.folder)
    model: Any = loaded._model
    run, model._run = model._run, Spy()
    frozen, tensor = image(), torch.from_numpy(image())
    frozen.flags.writeable = False
    flipped = image()[:, :, ::-1]
    outputs = [loaded(each) for each in (frozen, tensor, flipped[:, :, ::-1], flipped)]
    assert model._run.read[:2] == [frozen.ctypes.data, tensor.data_ptr()]
    assert model._run.read[3] != flipped.ctypes.data
    for each in outputs[:3]:
        np.testing.assert_array_equal(each, outputs[0])


def test_threads_share_a_bundle_and_load_it_each(made: Bundle) -> None:
    shared = tvm_eff.load(made.folder)
    right = shared(image())

    def work(number: int) -> bool:
        own = shared if number % 2 else tvm_eff.load(made.folder, threads=1)
        return all(np.array_equal(own(image()), right) for _ in range(20))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


def test_a_damaged_header(made: Bundle) -> None:
    header = made.folder / "tvm_eff.h"
    before = header.read_bytes()
    header.write_bytes(before + b" ")
    try:
        with pytest.raises(BundleError, match=r"tvm_eff\.h is damaged"):
            tvm_eff.load(made.folder)
    finally:
        header.write_bytes(before)


def test_neither_tvm_nor_torch_is_there(made: Bundle) -> None:
    script = """
import sys
for name in ("tvm", "tvm_ffi", "torch", "psutil", "filelock", "rich", "platformdirs"):
    sys.modules[name] = None
import numpy as np
import tvm_eff
model = tvm_eff.load(sys.argv[1])
print(model.check() < 1e-5, model(np.ones((1, 3, 16, 16), "float32")).shape)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(made.folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stderr, done.stdout) == ("", "True (1, 4)\n")


@pytest.mark.parametrize("kind", ["linked", "opened"])
def test_the_pages_program(made: Bundle, tmp_path: Path, kind: str) -> None:
    (program,) = re.findall(r"^```c\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    if kind == "opened":
        program = program.replace('"tvm_eff.h"', '"tvm_eff_open.h"').replace(
            "tvm_eff_this_library()", f'tvm_eff_open("{made.library}", NULL)'
        )
    (tmp_path / "program.c").write_text(program)
    linked = [made.library, f"-Wl,-rpath,{made.folder}"] if kind == "linked" else ["-ldl"]
    toolchain.run(
        [
            *("cc", "-Wall", "-Wextra", "-Werror", f"-I{made.folder}", tmp_path / "program.c"),
            *(*linked, "-o", tmp_path / "program"),
        ]
    )
    ran = subprocess.run(tmp_path / "program", capture_output=True, text=True, check=True)
    zeros = tvm_eff.load(made.folder)(np.zeros((1, 3, 16, 16), "float32"))
    found = re.fullmatch(r"net: code 0, (\S+)\n", ran.stdout)
    assert found is not None, ran.stdout
    assert float(found.group(1)) == pytest.approx(float(np.ravel(zeros)[0]), rel=1e-4)


def test_a_bundle_written_again_is_loaded_anew(tmp_path: Path) -> None:
    found = []
    for factor in (2.0, 3.0):
        module = nn.Linear(3, 3, bias=False)
        nn.init.constant_(module.weight, factor)
        made = tvm_eff.compile(
            module.eval(),
            torch.ones(1, 3),
            measure=False,
            output=tmp_path,
            logs=tmp_path / "logs",
        )
        found.append(float(np.ravel(tvm_eff.load(made.folder)(np.ones((1, 3), "float32")))[0]))
    assert found == [6.0, 9.0]


def test_a_board(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()).eval()
    made = tvm_eff.compile(
        module,
        torch.from_numpy(image()),
        target="rasp4",
        trials=1,
        output=tmp_path,
        logs=tmp_path / "logs",
    )
    assert made.manifest.runtime == "native"
    assert made.error <= 1e-5
