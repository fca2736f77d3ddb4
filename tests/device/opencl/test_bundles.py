"""Bundles for a GPU: which devices refuse them, and what they compute where they run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gpu_networks
import numpy as np
import pytest
import torch
from servers import tvm_server

import tvm_eff
from tvm_eff import targets
from tvm_eff.deploy import bench, bundle, bundle_writer, gpu, machine
from tvm_eff.deploy.bundle import Golden
from tvm_eff.deploy.manifest import Validation
from tvm_eff.device import opencl
from tvm_eff.errors import BundleError, UsageError
from tvm_eff.targets import OpenCLRequirements
from tvm_eff.tensors import network_tolerance, relative_error

HERE = targets.load("opencl-host")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write the bundle of one small network in either dtype."""
    root = tmp_path_factory.mktemp("bundles")
    return {dtype: write(root / dtype, dtype, root) for dtype in ("float32", "float16")}


def write(folder: Path, dtype: str, scratch: Path, family: str = "xception") -> Path:
    library = scratch / "model.so"
    needs = gpu_networks.small(family, dtype, HERE, library)
    inputs, outputs = example(family)
    bundle_writer.write(
        folder,
        library,
        model=family,
        target=HERE,
        golden=Golden({"x": inputs}, {"y": outputs}),
        validation=Validation(network_tolerance(dtype), 0.0, 1, "nowhere", dtype, True),
        opencl=needs,
    )
    return folder


def example(family: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    model, _ = gpu_networks.imported(family)
    x = np.random.default_rng(seed).standard_normal(gpu_networks.IMAGE).astype("float32")
    with torch.no_grad():
        return x, model(torch.from_numpy(x)).numpy()


def edited(folder: Path, copy: Path, needed: dict[str, Any]) -> Path:
    """Return a copy of a bundle with other needs."""
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["target"]["opencl"].update(needed)
    (copy / "manifest.json").write_text(json.dumps(manifest))
    return copy


def refusal(folder: Path) -> str:
    """Load a bundle; return why that is refused."""
    try:
        tvm_eff.load(folder)
    except BundleError as error:
        return str(error)
    return ""


def refusals_of_all_devices(needs: OpenCLRequirements) -> list[str]:
    found = []
    for device in opencl.devices():
        try:
            gpu.require(needs, device, Path("model.so"))
        except BundleError as error:
            found.append(str(error))
    return found


def computed(folder: Path, x: np.ndarray) -> tuple[float, np.ndarray]:
    model = tvm_eff.load(folder)
    return model.check(), np.asarray(model(x))


IMPOSSIBLE = [
    ({"extensions": ["cl_khr_fp1024"]}, "the extension cl_khr_fp1024"),
    ({"version": "9.1"}, "OpenCL 9.1"),
    ({"work_group": 1 << 20}, "work-groups of 1048576 work-items"),
    ({"local_memory": 1 << 40}, "1099511627776 bytes of local memory"),
]


@pytest.mark.parametrize(("needed", "expected"), IMPOSSIBLE)
def test_what_no_device_has_is_named_for_each(
    run: Callable[..., Any],
    folders: dict[str, Path],
    tmp_path: Path,
    needed: dict[str, Any],
    expected: str,
) -> None:
    message = run(refusal, edited(folders["float32"], tmp_path / "b", needed))
    assert message.count(f"lacks {expected}") == 2
    assert "PoCL" in message
    assert message.endswith(
        "build the bundle for a target with this device's limits, or in float32"
    )


def test_a_device_without_half_precision_is_refused(run: Callable[..., Any]) -> None:
    [message] = run(refusals_of_all_devices, OpenCLRequirements("1.2", ("cl_khr_fp16",), 1, 0))
    assert "PoCL" in message
    assert "lacks the extension cl_khr_fp16" in message


def test_a_processor_is_no_gpu() -> None:
    with pytest.raises(BundleError, match="needs an OpenCL device, and was to run on a processor"):
        gpu.require(OpenCLRequirements("1.2", (), 1, 0), None, Path("model.so"))


def test_what_a_library_needs_is_in_its_manifest(folders: dict[str, Path]) -> None:
    assert HERE.gpu is not None
    for dtype, extensions in (("float32", ()), ("float16", ("cl_khr_fp16",))):
        needs = bundle.read(folders[dtype]).manifest.target.opencl
        assert needs is not None
        assert (needs.version, needs.extensions) == ("1.2", extensions)
        assert 1 < needs.work_group <= HERE.gpu.work_group


def test_the_processor_that_launches_kernels_has_its_features(folders: dict[str, Path]) -> None:
    features = bundle.read(folders["float32"]).manifest.target.cpu_features
    assert features == machine.needed_features(targets.load("host"))
    assert "asimd" in machine.needed_features(targets.load("rk3399-mali"))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_bundle_computes_what_pytorch_computes(
    run: Callable[..., Any], folders: dict[str, Path], dtype: str
) -> None:
    x, expected = example("xception", seed=1)
    error, output = run(computed, folders[dtype], x)
    assert error <= network_tolerance(dtype)
    assert relative_error(output, expected) <= network_tolerance(dtype)
    assert output.argmax() == expected.argmax()
    # Nobody rounds to float16 and stays as close as float32.
    assert (relative_error(output, expected) > 1e-5) == (dtype == "float16")


def test_threads_are_the_processors(drivers: object, folders: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match="runs kernels on the GPU; leave --threads out"):
        bench.bench(bench.Options(folders["float32"], threads=2))


def test_timing_on_this_machine(drivers: object, folders: dict[str, Path]) -> None:
    report = bench.bench(bench.Options(folders["float16"], repeat=3))
    assert report.measurement.unit == "seconds"
    assert 0 < report.largest_error <= network_tolerance("float16")
    assert "Intel" in report.where


def test_timing_where_something_is_missing(
    drivers: object, folders: dict[str, Path], tmp_path: Path
) -> None:
    greedy = edited(folders["float32"], tmp_path / "b", {"work_group": 1 << 20})
    with pytest.raises(BundleError, match=r"does not run there: .* lacks work-groups of 1048576"):
        bench.bench(bench.Options(greedy))


def test_timing_on_a_board(
    drivers: object, caches: dict[str, str], folders: dict[str, Path], tmp_path: Path
) -> None:
    # TVM's server, on a device without half precision.
    with tvm_server(tmp_path, caches) as port:
        board = f"127.0.0.1:{port}"
        with pytest.raises(BundleError, match=r"PoCL.* lacks the extension cl_khr_fp16"):
            bench.bench(bench.Options(folders["float16"], rpc=board))
        report = bench.bench(bench.Options(folders["float32"], rpc=board, repeat=3))
    assert report.where == f"rpc {board}"
    assert report.largest_error <= network_tolerance("float32")
