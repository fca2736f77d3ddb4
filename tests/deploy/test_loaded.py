"""What a loaded bundle accepts, computes and imports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_bundles import Maker, tensor, write_unchanged

import tvm_eff
from tvm_eff.errors import BundleError, UsageError, ValidationError
from tvm_eff.targets.detect import usable_cores


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "manifest.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def test_bundle_of_another_architecture(maker: Maker, tmp_path: Path) -> None:
    maker.write(tmp_path / "b", "rasp3-armv7")
    with pytest.raises(
        BundleError, match=r"made for rasp3-armv7 \(arm\); this machine is .*bench\.py .*--rpc"
    ):
        tvm_eff.load(tmp_path / "b")


def test_bundle_that_needs_a_processor_feature_of_the_future(maker: Maker, tmp_path: Path) -> None:
    maker.write(tmp_path / "b")
    edit_manifest(tmp_path / "b", lambda data: data["target"]["cpu_features"].append("avx4096"))
    with pytest.raises(BundleError, match="this machine's processor lacks avx4096"):
        tvm_eff.load(tmp_path / "b")


def test_bundle_of_another_tvm(maker: Maker, tmp_path: Path) -> None:
    maker.write(tmp_path / "b")
    edit_manifest(tmp_path / "b", lambda data: data["versions"].update(tvm="0.25.0"))
    with pytest.raises(
        BundleError, match=r"built with TVM 0\.25\.0.*pip install apache-tvm==0\.25\.0"
    ):
        tvm_eff.load(tmp_path / "b")


def test_library_without_the_function(maker: Maker, tmp_path: Path) -> None:
    maker.write(tmp_path / "b")
    edit_manifest(tmp_path / "b", lambda data: data.update(function="mian"))
    with pytest.raises(BundleError, match=r"model\.so cannot be loaded: .*mian"):
        tvm_eff.load(tmp_path / "b")


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ([], r"scale takes 1 inputs, not 0: x \(2 x 3 float32\)"),
        ([tensor(), tensor()], "takes 1 inputs, not 2"),
        ([tensor().T], r"input x \(2 x 3 float32\) was given with the shape \(3, 2\)"),
        ([tensor().astype("float64")], r"given as float64; convert it: x\.astype\('float32'\)"),
        ([tensor().tolist()], "given as builtins.list; give a numpy array"),
        ([tensor().astype(">f4")], r"given as >f4; convert it: x\.astype\('float32'\)"),
        ([np.float32(1)], r"given with the shape \(\)"),
        ([np.ma.masked_less(tensor(), 0)], r"with masked values, .* fill them: x\.filled\(0\)"),
        ([torch.ones(2, 3, requires_grad=True)], "torch.Tensor, which cannot be read .*gradient"),
        ([torch.ones(2, 3, dtype=torch.bfloat16)], "torch.Tensor, which cannot be read|bfloat16"),
        ([torch.ones(2, 3, dtype=torch.float64)], "given as float64; convert it"),
        ([torch.ones(2, 3).to_sparse()], "torch.Tensor, which cannot be read"),
        ([torch.ones(2, 3, device="meta")], "torch.Tensor, which cannot be read"),
    ],
)
def test_inputs_that_do_not_fit(
    maker: Maker, tmp_path: Path, inputs: list[Any], expected: str
) -> None:
    maker.write(tmp_path / "b")
    model = tvm_eff.load(tmp_path / "b")
    with pytest.raises(BundleError, match=expected):
        model(*inputs)
    np.testing.assert_array_equal(model(tensor()), 2 * tensor())


def test_wrong_golden_output_is_told(maker: Maker, tmp_path: Path) -> None:
    maker.write(tmp_path / "b", factor=2.0, expected=2.001)
    with pytest.raises(ValidationError, match=r"output 0 is wrong.*1\.0e-05 is allowed"):
        tvm_eff.load(tmp_path / "b").check()


def test_one_output(maker: Maker, tmp_path: Path) -> None:
    maker.write(tmp_path / "b")
    model = tvm_eff.load(str(tmp_path / "b"))
    assert model.check() < 1e-6
    for seed in (5, 6):
        np.testing.assert_array_equal(model(tensor(seed)), 2 * tensor(seed))
    assert repr(model) == "<scale for host: x (2 x 3 float32) -> y (2 x 3 float32)>"


def test_several_inputs_and_outputs(maker: Maker, tmp_path: Path) -> None:
    maker.write_pair(tmp_path / "b")
    model = tvm_eff.load(tmp_path / "b")
    model.check()
    total, product = model(tensor(5), tensor(6))
    np.testing.assert_array_equal(total, tensor(5) + tensor(6))
    np.testing.assert_array_equal(product, tensor(5) * tensor(6))


def test_an_input_with_nan_is_refused_if_asked_for(maker: Maker, tmp_path: Path) -> None:
    folder = maker.write(tmp_path / "b").folder
    x = tensor()
    x[0, 1] = np.nan
    careful = tvm_eff.load(folder, refuse_nan=True)
    with pytest.raises(BundleError, match=r"the input x \(2 x 3 float32\) has 1 NaN"):
        careful(x)
    assert np.isfinite(careful(tensor())).all()
    assert np.isnan(tvm_eff.load(folder)(x)).sum() == 1


def test_a_row_that_stands_for_all(maker: Maker, tmp_path: Path) -> None:
    maker.write(tmp_path / "b")
    row = np.broadcast_to(tensor()[0], (2, 3))
    np.testing.assert_array_equal(tvm_eff.load(tmp_path / "b")(row), 2 * row)


def test_input_that_is_a_view(maker: Maker, tmp_path: Path) -> None:
    maker.write(tmp_path / "b")
    wide = np.random.default_rng(0).standard_normal((3, 4)).astype("float32")
    view = wide.T[::2]
    assert not view.flags.c_contiguous
    np.testing.assert_array_equal(tvm_eff.load(tmp_path / "b")(view), 2 * view)


def misaligned(values: np.ndarray) -> np.ndarray:
    memory = np.zeros(values.nbytes + 1, "uint8")
    array = memory[1:].view("float32").reshape(values.shape)
    array[:] = values
    assert not array.flags.aligned
    return array


def read_only(values: np.ndarray) -> np.ndarray:
    array = values.copy()
    array.flags.writeable = False
    return array


def backwards(values: np.ndarray) -> np.ndarray:
    return values[::-1, ::-1].copy()[::-1, ::-1]


def mapped(values: np.ndarray) -> np.ndarray:
    with tempfile.NamedTemporaryFile(suffix=".npy") as file:
        np.save(file.name, values)
        return np.load(file.name, mmap_mode="r")


@pytest.mark.parametrize(
    "make",
    [
        misaligned,
        read_only,
        np.asfortranarray,
        backwards,
        mapped,
        np.ma.asarray,
        np.asmatrix,
        torch.from_numpy,
        lambda values: torch.from_numpy(values.T.copy()).T,
        lambda values: torch._neg_view(torch.from_numpy(-values)),
    ],
)
def test_input_that_has_to_be_copied(
    maker: Maker, tmp_path: Path, make: Callable[[np.ndarray], np.ndarray]
) -> None:
    maker.write(tmp_path / "b")
    model = tvm_eff.load(tmp_path / "b")
    np.testing.assert_array_equal(model(make(tensor(7))), 2 * tensor(7))


def test_an_input_may_be_at_any_address_and_is_left_as_it_was(maker: Maker, tmp_path: Path) -> None:
    maker.write(tmp_path / "b")
    model = tvm_eff.load(tmp_path / "b")
    memory = np.zeros(tensor().size + 16, "float32")
    for start in range(16):
        array = memory[start : start + tensor().size].reshape(tensor().shape)
        array[:] = tensor(start)
        np.testing.assert_array_equal(model(array), 2 * tensor(start))
        np.testing.assert_array_equal(array, tensor(start))


def test_a_bundle_of_an_earlier_format_copies_its_input(maker: Maker, tmp_path: Path) -> None:
    maker.write(tmp_path / "b")
    edit_manifest(tmp_path / "b", lambda data: (data.update(format=2), data.pop("inputs_anywhere")))
    model = tvm_eff.load(tmp_path / "b")
    assert not model.manifest.inputs_anywhere
    np.testing.assert_array_equal(model(tensor(3)), 2 * tensor(3))


def test_a_result_is_no_part_of_the_input_or_the_library(tmp_path: Path) -> None:
    write_unchanged(tmp_path / "b")
    model = tvm_eff.load(tmp_path / "b")
    given = tensor(4)
    same, constant = model(given)
    assert not np.shares_memory(same, given)
    same[:], constant[:] = 0, 0
    np.testing.assert_array_equal(given, tensor(4))
    same, constant = model(given)
    np.testing.assert_array_equal(same, tensor(4))
    np.testing.assert_array_equal(constant, tensor(0))


def test_results_outlive_the_next_call(maker: Maker, tmp_path: Path) -> None:
    maker.write(tmp_path / "b")
    model = tvm_eff.load(tmp_path / "b")
    first = model(tensor(1))
    model(tensor(2))
    np.testing.assert_array_equal(first, 2 * tensor(1))


def test_a_bundle_written_again_is_loaded_anew(maker: Maker, tmp_path: Path) -> None:
    maker.write(tmp_path / "b", factor=2.0)
    before = tvm_eff.load(tmp_path / "b")
    maker.write(tmp_path / "b", factor=3.0)
    after = tvm_eff.load(tmp_path / "b")
    np.testing.assert_array_equal(after(tensor()), 3 * tensor())
    np.testing.assert_array_equal(before(tensor()), 2 * tensor())


def test_threads_share_a_bundle(maker: Maker, tmp_path: Path) -> None:
    maker.write(tmp_path / "b")
    model = tvm_eff.load(tmp_path / "b")
    # Not contiguous: they are copied to where the library reads them.
    inputs = [np.full((3, 2), float(number), "float32").T for number in range(8)]
    wanted = [model(x) for x in inputs]

    def call(number: int) -> bool:
        x = inputs[number % len(inputs)]
        return np.array_equal(model(x), wanted[number % len(inputs)])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(call, range(2000)))


def test_loading_imports_neither_torch_nor_the_tuner(maker: Maker, tmp_path: Path) -> None:
    maker.write(tmp_path / "b")
    script = """
import sys
# A board that only runs it has TVM, NumPy and msgspec.
absent = ("cloudpickle", "filelock", "psutil", "rich", "tornado", "xgboost")
sys.modules.update(dict.fromkeys(absent))
import numpy as np
import tvm_eff
model = tvm_eff.load(sys.argv[1])
model.check()
model(np.ones((2, 3), "float32"))
ours = ("tune", "frontend", "schedules", "codegen", "passes", "models", "device.base")
heavy = {"torch", *(f"tvm_eff.{room}" for room in ours)}
print(sorted(heavy & sys.modules.keys()))
for name in absent:
    del sys.modules[name]
import torch
print(torch.ones(2).sum().item())
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "b")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["[]", "2.0"]


def test_a_loaded_bundle_uses_the_cores_it_was_tuned_for(maker: Maker, tmp_path: Path) -> None:
    maker.write(tmp_path / "b")
    script = """
import sys, tvm_eff
tvm_eff.load(sys.argv[1])
import tvm
print(tvm.get_global_func("runtime.NumThreads")())
"""
    asked = {"TVM_NUM_THREADS", "OMP_NUM_THREADS"}
    environment = {name: value for name, value in os.environ.items() if name not in asked}
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "b")],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.stderr == ""
    assert int(done.stdout) == usable_cores()


@pytest.mark.parametrize("option", [{"threads": 1}, {"cores": [0]}])
def test_threads_of_the_virtual_machine(
    maker: Maker, tmp_path: Path, option: dict[str, Any]
) -> None:
    maker.write(tmp_path / "b")
    with pytest.raises(UsageError, match=r"virtual machine runs .*: TVM_NUM_THREADS=2 python"):
        tvm_eff.load(tmp_path / "b", **option)
