"""OpenCL devices behind the interface that the tuner measures with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tvm
from servers import tvm_server
from tvm import relax, te
from tvm.s_tir import Schedule

from tvm_eff import targets
from tvm_eff.codegen import build_kernel, build_module
from tvm_eff.device import LocalOpenCLDevice, MeasureOptions, RpcDevice, local_opencl
from tvm_eff.device.base import Contender
from tvm_eff.errors import DeviceError, ExecutionError
from tvm_eff.tensors import TensorSpec

HERE = targets.load("opencl-host")
SHAPE = TensorSpec((64, 64), "float32")
X = np.arange(64 * 64, dtype="float32").reshape(64, 64)
BRIEF = MeasureOptions(repeat=2, min_repeat_ms=1.0, budget_s=0.1)


@pytest.fixture(autouse=True)
def apart(
    drivers: tuple[str, ...], caches: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in caches.items():
        monkeypatch.setenv(name, value)


def _doubling(threads: int) -> Schedule:
    x = te.placeholder((64, 64), name="x")
    y = te.compute((64, 64), lambda i, j: x[i, j] * 2.0, name="y")
    sch = Schedule(te.create_prim_func([x, y]).with_attr("global_symbol", "main"))
    both = sch.fuse(*sch.get_loops(sch.get_sblock("y")))
    group, thread = sch.split(both, [None, threads])
    sch.bind(group, "blockIdx.x")
    sch.bind(thread, "threadIdx.x")
    return sch


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("doubling") / "doubling.so"
    build_kernel(_doubling(64), HERE, path)
    return path


@pytest.fixture(params=["pocl", "intel"])
def device(request: pytest.FixtureRequest) -> Iterator[LocalOpenCLDevice]:
    with LocalOpenCLDevice(driver=request.param) as opened:
        yield opened


def test_device_that_lacks_what_is_needed() -> None:
    lacking = LocalOpenCLDevice(["cl_khr_fp16"], driver="pocl")
    with pytest.raises(DeviceError, match=r"PoCL .* has no cl_khr_fp16.*pip install intel"):
        lacking.open()
    assert lacking.opencl_device is None


def test_first_device_that_has_what_is_needed() -> None:
    with LocalOpenCLDevice(["cl_khr_fp16"]) as device:
        assert device.opencl_device is not None
        assert device.opencl_device.has_float16
        assert "Intel" in device.where


def test_closed_device() -> None:
    device = LocalOpenCLDevice(driver="pocl")
    with pytest.raises(DeviceError, match="not open"):
        _ = device.identity


def test_work_group_too_large(device: LocalOpenCLDevice, library: Path, tmp_path: Path) -> None:
    assert device.opencl_device is not None
    large = tmp_path / "large.so"
    sch = _doubling(4 * device.opencl_device.work_group)
    target = tvm.target.Target(
        {"kind": "opencl", "max_num_threads": 1 << 20, "host": dict(HERE.tvm) | {"mattr": []}}
    )
    tvm.tirx.build(sch.mod, target=target).export_library(str(large))
    with pytest.raises(ExecutionError, match="work-items"):
        device.call(large, "main", [X], [SHAPE])
    (doubled,), _ = device.call(library, "main", [X], [SHAPE])
    assert (doubled == 2 * X).all()


def test_call_and_compare(device: LocalOpenCLDevice, library: Path) -> None:
    (doubled,), measured = device.call(library, "main", [X], [SHAPE], measure=BRIEF)
    assert (doubled == 2 * X).all()
    assert measured is not None
    assert measured.unit == "seconds"
    assert 0 < measured.median < 0.1
    contenders = [Contender(library, [X]), Contender(library, [X])]
    both = device.compare(contenders, "main", [SHAPE], rounds=2, min_repeat_ms=1.0)
    assert [len(each.values) for each in both] == [2, 2]
    assert device.stands_in
    assert "this machine" in device.where


def test_network(device: LocalOpenCLDevice, tmp_path: Path) -> None:
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((64, 64), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            kernel = builder.add_func(
                _doubling(64).mod["main"].without_attr("global_symbol"), "doubling"
            )
            once = builder.emit(relax.call_tir(kernel, [x], x.ty))
            result = builder.emit_output(relax.call_tir(kernel, [once], x.ty))
        builder.emit_func_output(result)
    build_module(builder.get(), HERE, tmp_path / "network.so")
    (output,), measured = device.run(tmp_path / "network.so", [X], measure=BRIEF)
    assert (output == 4 * X).all()
    assert measured is not None


def test_a_driver_keeps_its_files_with_the_server(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("POCL_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    with LocalOpenCLDevice(driver="pocl") as device:
        (doubled,), _ = device.call(library, "main", [X], [SHAPE])
        assert (doubled == 2 * X).all()
    assert not (tmp_path / "pocl").exists()
    assert not (tmp_path / ".cache").exists()


def test_servers_process_is_renewed(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_opencl, "_CALLS", 2)
    connected = []
    with LocalOpenCLDevice(driver="pocl") as device:
        for _ in range(5):
            connected.append(device._connection)
            (doubled,), _ = device.call(library, "main", [X], [SHAPE], keep=True)
            assert (doubled == 2 * X).all()
    assert len(set(connected)) > 1


def test_board(library: Path, caches: dict[str, str], tmp_path: Path) -> None:
    with (
        tvm_server(tmp_path, caches) as port,
        RpcDevice("127.0.0.1", port, device_type="opencl") as board,
    ):
        (doubled,), measured = board.call(library, "main", [X], [SHAPE], measure=BRIEF)
        assert (doubled == 2 * X).all()
        assert measured is not None
        assert board.opencl_device is not None
        assert board.opencl_device.name in board.identity.gpu
        assert board.where == f"rpc 127.0.0.1:{port}"


def test_board_without_the_plugin(caches: dict[str, str], tmp_path: Path) -> None:
    # Where nothing was built, nothing is loaded when TVM is imported.
    empty = {**caches, "TVM_EFF_CACHE": str(tmp_path / "empty")}
    with tvm_server(tmp_path, empty, plugin=False) as port:
        board = RpcDevice("127.0.0.1", port, device_type="opencl")
        with pytest.raises(DeviceError, match=r"no OpenCL plug-in.*--load-library"):
            board.open()
