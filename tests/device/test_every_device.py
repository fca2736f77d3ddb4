"""What all kinds of devices have in common; every test runs on each of them."""

from __future__ import annotations

import socket
import tempfile
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from places import Libraries, Place

from tvm_eff.device import Device, MeasureOptions
from tvm_eff.device.connection import Connection
from tvm_eff.errors import DeviceError, ExecutionError, UsageError
from tvm_eff.tensors import TensorSpec

BRIEFLY = MeasureOptions(repeat=3, min_repeat_ms=5, budget_s=0.2)
DOUBLED = [TensorSpec((32, 16), "float32")]


def matrix() -> np.ndarray:
    return np.random.default_rng(0).random((32, 16), "float32")


def assert_works(device: Device, place: Place, libraries: Libraries) -> None:
    x = matrix()
    (y,), cost = device.call(libraries.double(place.arch), "double", [x], DOUBLED)
    np.testing.assert_allclose(y, 2 * x + 1, rtol=1e-6)
    assert cost is None


@pytest.mark.parametrize("symbol", ["crash", "leave"])
def test_crash_is_the_codes_failure_and_the_device_goes_on(
    device: Device, place: Place, libraries: Libraries, symbol: str
) -> None:
    with pytest.raises(ExecutionError, match=f"'{symbol}' of behaviour.*(crash|ended)"):
        device.call(libraries.behaviour(place.arch), symbol, [], [])
    assert_works(device, place, libraries)


def test_hang_is_cut_off_and_the_device_goes_on(place: Place, libraries: Libraries) -> None:
    with place.make(3.0) as device:
        began = time.monotonic()
        with pytest.raises(ExecutionError, match="no answer within 3 s"):
            device.call(libraries.behaviour(place.arch), "hang", [], [])
        assert time.monotonic() - began < 15
        assert_works(device, place, libraries)


def test_error_raised_by_the_code_is_told(
    device: Device, place: Place, libraries: Libraries
) -> None:
    with pytest.raises(ExecutionError, match="expected 32"):
        device.call(libraries.double(place.arch), "double", [matrix()[:3]], DOUBLED)
    assert_works(device, place, libraries)


def test_unknown_function(device: Device, place: Place, libraries: Libraries) -> None:
    with pytest.raises(ExecutionError, match="has no function 'triple'"):
        device.call(libraries.double(place.arch), "triple", [], [])
    assert_works(device, place, libraries)


def test_file_that_is_no_library(
    device: Device, place: Place, libraries: Libraries, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"\x7fELF and nothing more")
    with pytest.raises(ExecutionError, match=r"broken\.so"):
        device.run(broken, [])
    assert_works(device, place, libraries)


def test_missing_file(device: Device, place: Place, libraries: Libraries, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the library"):
        device.run(tmp_path / "absent.so", [])
    assert_works(device, place, libraries)


def test_function_that_writes_nothing_is_seen(
    device: Device, place: Place, libraries: Libraries
) -> None:
    specs = [TensorSpec((4,), "float32"), TensorSpec((4,), "int8")]
    (floats, integers), _ = device.call(libraries.behaviour(place.arch), "nothing", [], specs)
    assert np.isnan(floats).all()
    assert (integers == -1).all()


def test_call_of_a_closed_device(place: Place, libraries: Libraries) -> None:
    device = place.make(30.0)
    with pytest.raises(DeviceError, match="not open"):
        device.call(libraries.double(place.arch), "double", [], [])


def test_open_and_close_may_be_repeated(place: Place, libraries: Libraries) -> None:
    device = place.make(30.0)
    device.close()
    for _ in range(2):
        device.open()
        device.open()
        assert_works(device, place, libraries)
        device.close()
        device.close()


def test_relax_module_with_two_outputs(device: Device, place: Place, libraries: Libraries) -> None:
    random = np.random.default_rng(1)
    x, y = (random.random((4, 8), "float32") for _ in "xy")
    (total, product), cost = device.run(libraries.pair(place.arch), [x, y], measure=BRIEFLY)
    np.testing.assert_allclose(total, x + y, rtol=1e-6)
    np.testing.assert_allclose(product, x * y, rtol=1e-6)
    assert cost is not None
    assert cost.unit == device.unit
    assert cost.median > 0


def test_relax_module_with_one_output(device: Device, place: Place, libraries: Libraries) -> None:
    x = np.arange(5, dtype="float32")
    (square,), _ = device.run(libraries.square(place.arch), [x])
    np.testing.assert_array_equal(square, x * x)


def test_a_library_that_is_kept_is_sent_once(
    device: Device, place: Place, libraries: Libraries, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []
    upload = Connection.uploaded

    def counted(self: Connection, library: bytes) -> AbstractContextManager[Any]:
        sent.append(len(library))
        return upload(self, library)

    monkeypatch.setattr(Connection, "uploaded", counted)
    x, y = np.arange(5, dtype="float32"), np.full(5, 3, "float32")
    square = libraries.square(place.arch)
    for each in (x, y, x):
        np.testing.assert_array_equal(device.run(square, [each], keep=True)[0][0], each * each)
    assert len(sent) == 1
    # Another library takes its place, and so does the next one.
    ones = np.ones((4, 8), "float32")
    device.run(libraries.pair(place.arch), [ones, ones], keep=True)
    np.testing.assert_array_equal(device.run(square, [y], keep=True)[0][0], y * y)
    assert len(sent) == 3
    # What a crash took with it is sent again.
    with pytest.raises(ExecutionError):
        device.call(libraries.behaviour(place.arch), "crash", [], [])
    np.testing.assert_array_equal(device.run(square, [x], keep=True)[0][0], x * x)
    device.forget()
    np.testing.assert_array_equal(device.run(square, [x], keep=True)[0][0], x * x)
    assert len(sent) == 6


def test_twice_the_work_costs_twice_as_much(
    device: Device, place: Place, libraries: Libraries
) -> None:
    library = libraries.behaviour(place.arch)
    _, one = device.call(library, "spin1", [], [], measure=BRIEFLY)
    _, two = device.call(library, "spin2", [], [], measure=BRIEFLY)
    assert one is not None
    assert two is not None
    slack = 0.002 if device.unit == "instructions" else 0.5
    assert two.percentile(10) / one.percentile(10) == pytest.approx(2, rel=slack)


def test_kept_inputs_are_not_sent_again(device: Device, place: Place, libraries: Libraries) -> None:
    x = matrix()
    double, spoil = libraries.double(place.arch), libraries.spoil(place.arch)
    for _ in range(2):
        (y,), _ = device.call(double, "double", [x], DOUBLED, keep=True)
        np.testing.assert_allclose(y, 2 * x + 1, rtol=1e-6)
    device.call(spoil, "spoil", [x], DOUBLED, keep=True)
    (y,), _ = device.call(double, "double", [x], DOUBLED, keep=True)
    assert np.isnan(y).all()
    # Neither a call that keeps nothing nor another array takes what is there.
    assert_works(device, place, libraries)
    (y,), _ = device.call(double, "double", [x.copy()], DOUBLED, keep=True)
    np.testing.assert_allclose(y, 2 * x + 1, rtol=1e-6)
    device.call(spoil, "spoil", [x], DOUBLED, keep=True)
    device.forget()
    (y,), _ = device.call(double, "double", [x], DOUBLED, keep=True)
    np.testing.assert_allclose(y, 2 * x + 1, rtol=1e-6)


def test_kept_inputs_are_sent_again_after_a_crash(
    device: Device, place: Place, libraries: Libraries
) -> None:
    x = matrix()
    double = libraries.double(place.arch)
    device.call(double, "double", [x], DOUBLED, keep=True)
    with pytest.raises(ExecutionError):
        device.call(libraries.behaviour(place.arch), "crash", [x], DOUBLED, keep=True)
    (y,), _ = device.call(double, "double", [x], DOUBLED, keep=True)
    np.testing.assert_allclose(y, 2 * x + 1, rtol=1e-6)


def test_health_and_identity(place: Place) -> None:
    found = []
    for _ in range(2):
        with place.make(30.0) as device:
            device.health()
            assert any(word in device.where for word in ("this machine", "rpc", "emulated"))
            found.append(device.identity)
    # The same from another connection, whatever its address.
    assert found[0] == found[1]
    assert found[0].system
    assert found[0].cores > 0 or "qemu" in found[0].system


def test_what_counts_instructions_is_repeatable(device: Device) -> None:
    assert device.repeatable == (device.unit == "instructions")
    assert not device.stands_in


def test_nothing_is_left_open_or_running(place: Place, libraries: Libraries) -> None:
    ourselves = psutil.Process()
    with place.make(30.0):
        pass  # whatever is opened once and for all
    sockets, children = _sockets(ourselves), _children(ourselves)
    with place.make(3.0) as device:
        assert_works(device, place, libraries)
        with pytest.raises(ExecutionError):
            device.call(libraries.behaviour(place.arch), "crash", [], [])
    assert _sockets(ourselves) == sockets
    end = time.monotonic() + 10  # a real server ends its session's process in its own time
    while started := _children(ourselves) - children:
        assert time.monotonic() < end, started
        time.sleep(0.05)


def test_server_keeps_no_files_of_calls(
    place: Place, libraries: Libraries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with place.make(30.0) as device:
        for _ in range(3):
            assert_works(device, place, libraries)
            assert not list(tmp_path.rglob("*.so"))


def _sockets(process: psutil.Process) -> set[tuple[object, ...]]:
    connections = process.net_connections()
    return {(c.laddr, c.raddr) for c in connections if c.type == socket.SOCK_STREAM}


def _children(process: psutil.Process) -> set[int]:
    return {child.pid for child in process.children(recursive=True)}
