"""What every device must do, as tests."""

from __future__ import annotations

import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
import psutil
import pytest

from tvm_eff.device import Contender, Device, MeasureOptions
from tvm_eff.errors import DeviceError, ExecutionError, UsageError
from tvm_eff.targets import Target
from tvm_eff.tensors import TensorSpec
from tvm_eff.testing.libraries import Libraries

MakeDevice: TypeAlias = Callable[[float], Device]
"""Makes a device, not yet open, from the seconds that one call may take."""

BRIEFLY = MeasureOptions(repeat=3, min_repeat_ms=5, budget_s=0.2)
DOUBLED = [TensorSpec((32, 16), "float32")]


class DeviceConformance:
    """The contract of :class:`tvm_eff.device.Device`; derive a test class from it.

    It needs two fixtures, ``make_device`` and ``target``. Every device that the first one
    makes must reach the same machine, on which code for the second one runs: on its processor,
    not on a GPU. A test takes seconds; the code that hangs is cut off after three.
    """

    @pytest.fixture
    def make_device(self) -> MakeDevice:
        """How to make a device; to be overridden."""
        raise NotImplementedError(f"{type(self).__name__} must have a fixture 'make_device'")

    @pytest.fixture
    def target(self) -> Target:
        """What the device runs code for; to be overridden."""
        raise NotImplementedError(f"{type(self).__name__} must have a fixture 'target'")

    @pytest.fixture(scope="session")
    @classmethod
    def libraries(cls, tmp_path_factory: pytest.TempPathFactory) -> Libraries:
        """What is run on the device."""
        return Libraries(tmp_path_factory.mktemp("libraries"))

    @pytest.fixture
    def device(self, make_device: MakeDevice) -> Iterator[Device]:
        """An open device."""
        with make_device(30.0) as opened:
            yield opened

    # The code fails, and the device goes on.

    @pytest.mark.parametrize("symbol", ["crash", "leave"])
    def test_crash_is_the_codes_failure_and_the_device_goes_on(
        self, device: Device, target: Target, libraries: Libraries, symbol: str
    ) -> None:
        with pytest.raises(ExecutionError, match=f"'{symbol}' of behaviour.*(crash|ended)"):
            device.call(libraries.behaviour(target), symbol, [], [])
        assert_works(device, target, libraries)

    def test_hang_is_cut_off_and_the_device_goes_on(
        self, make_device: MakeDevice, target: Target, libraries: Libraries
    ) -> None:
        with make_device(3.0) as device:
            began = time.monotonic()
            with pytest.raises(ExecutionError, match="no answer within 3 s"):
                device.call(libraries.behaviour(target), "hang", [], [])
            assert time.monotonic() - began < 15
            assert_works(device, target, libraries)

    def test_error_raised_by_the_code_is_told(
        self, device: Device, target: Target, libraries: Libraries
    ) -> None:
        with pytest.raises(ExecutionError, match="expected 32"):
            device.call(libraries.double(target), "double", [matrix()[:3]], DOUBLED)
        assert_works(device, target, libraries)

    def test_unknown_function(self, device: Device, target: Target, libraries: Libraries) -> None:
        with pytest.raises(ExecutionError, match="has no function 'triple'"):
            device.call(libraries.double(target), "triple", [], [])
        assert_works(device, target, libraries)

    def test_file_that_is_no_library(
        self, device: Device, target: Target, libraries: Libraries, tmp_path: Path
    ) -> None:
        broken = tmp_path / "broken.so"
        broken.write_bytes(b"\x7fELF and nothing more")
        with pytest.raises(ExecutionError, match=r"broken\.so"):
            device.run(broken, [])
        assert_works(device, target, libraries)

    def test_missing_file(
        self, device: Device, target: Target, libraries: Libraries, tmp_path: Path
    ) -> None:
        with pytest.raises(UsageError, match="cannot read the library"):
            device.run(tmp_path / "absent.so", [])
        assert_works(device, target, libraries)

    def test_function_that_writes_nothing_is_seen(
        self, device: Device, target: Target, libraries: Libraries
    ) -> None:
        specs = [TensorSpec((4,), "float32"), TensorSpec((4,), "int8")]
        (floats, integers), _ = device.call(libraries.behaviour(target), "nothing", [], specs)
        assert np.isnan(floats).all()
        assert (integers == -1).all()

    # Opening and closing.

    def test_call_of_a_closed_device(
        self, make_device: MakeDevice, target: Target, libraries: Libraries
    ) -> None:
        device = make_device(30.0)
        with pytest.raises(DeviceError, match="not open"):
            device.call(libraries.double(target), "double", [], [])

    def test_open_and_close_may_be_repeated(
        self, make_device: MakeDevice, target: Target, libraries: Libraries
    ) -> None:
        device = make_device(30.0)
        device.close()
        for _ in range(2):
            device.open()
            device.open()
            assert_works(device, target, libraries)
            device.close()
            device.close()

    def test_health_and_an_identity_that_stays(self, make_device: MakeDevice) -> None:
        found = []
        for _ in range(2):
            with make_device(30.0) as device:
                device.health()
                assert device.where
                found.append(device.identity)
        # The same from another connection, whatever its address.
        assert found[0] == found[1]
        assert found[0].system

    def test_nothing_is_left_open_or_running(
        self, make_device: MakeDevice, target: Target, libraries: Libraries
    ) -> None:
        ourselves = psutil.Process()
        with make_device(30.0):
            pass  # whatever is opened once and for all
        sockets, children = _sockets(ourselves), _children(ourselves)
        with make_device(3.0) as device:
            assert_works(device, target, libraries)
            with pytest.raises(ExecutionError):
                device.call(libraries.behaviour(target), "crash", [], [])
        assert _sockets(ourselves) == sockets
        end = time.monotonic() + 10  # a real server ends its session's process in its own time
        while started := _children(ourselves) - children:
            assert time.monotonic() < end, started
            time.sleep(0.05)

    def test_no_files_of_calls_are_kept(
        self,
        make_device: MakeDevice,
        target: Target,
        libraries: Libraries,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        with make_device(30.0) as device:
            for _ in range(3):
                assert_works(device, target, libraries)
                assert not list(tmp_path.rglob("*.so"))

    # Running a Relax module.

    def test_relax_module_with_two_outputs(
        self, device: Device, target: Target, libraries: Libraries
    ) -> None:
        random = np.random.default_rng(1)
        x, y = (random.random((4, 8), "float32") for _ in "xy")
        (total, product), cost = device.run(libraries.pair(target), [x, y], measure=BRIEFLY)
        np.testing.assert_allclose(total, x + y, rtol=1e-6)
        np.testing.assert_allclose(product, x * y, rtol=1e-6)
        assert cost is not None
        assert cost.unit == device.unit
        assert cost.median > 0

    def test_relax_module_with_one_output(
        self, device: Device, target: Target, libraries: Libraries
    ) -> None:
        x = np.arange(5, dtype="float32")
        (square,), cost = device.run(libraries.square(target), [x])
        np.testing.assert_array_equal(square, x * x)
        assert cost is None

    # What is kept on the device.

    def test_a_library_that_is_kept_gives_way_to_another(
        self, device: Device, target: Target, libraries: Libraries
    ) -> None:
        x, y = np.arange(5, dtype="float32"), np.full(5, 3, "float32")
        ones = np.ones((4, 8), "float32")

        def square(each: np.ndarray) -> np.ndarray:
            return device.run(libraries.square(target), [each], keep=True)[0][0]

        for each in (x, y, x):
            np.testing.assert_array_equal(square(each), each * each)
        (total, _), _ = device.run(libraries.pair(target), [ones, ones], keep=True)
        np.testing.assert_array_equal(total, ones + ones)
        np.testing.assert_array_equal(square(y), y * y)
        with pytest.raises(ExecutionError):
            device.call(libraries.behaviour(target), "crash", [], [])
        np.testing.assert_array_equal(square(x), x * x)
        device.forget()
        np.testing.assert_array_equal(square(y), y * y)

    def test_kept_inputs_are_not_sent_again(
        self, device: Device, target: Target, libraries: Libraries
    ) -> None:
        x = matrix()
        double, spoil = libraries.double(target), libraries.spoil(target)
        for _ in range(2):
            (y,), _ = device.call(double, "double", [x], DOUBLED, keep=True)
            np.testing.assert_allclose(y, 2 * x + 1, rtol=1e-6)
        device.call(spoil, "spoil", [x], DOUBLED, keep=True)
        (y,), _ = device.call(double, "double", [x], DOUBLED, keep=True)
        assert np.isnan(y).all()
        # Neither a call that keeps nothing nor another array takes what is there.
        assert_works(device, target, libraries)
        (y,), _ = device.call(double, "double", [x.copy()], DOUBLED, keep=True)
        np.testing.assert_allclose(y, 2 * x + 1, rtol=1e-6)
        device.call(spoil, "spoil", [x], DOUBLED, keep=True)
        device.forget()
        (y,), _ = device.call(double, "double", [x], DOUBLED, keep=True)
        np.testing.assert_allclose(y, 2 * x + 1, rtol=1e-6)

    def test_kept_inputs_are_sent_again_after_a_crash(
        self, device: Device, target: Target, libraries: Libraries
    ) -> None:
        x = matrix()
        double = libraries.double(target)
        device.call(double, "double", [x], DOUBLED, keep=True)
        with pytest.raises(ExecutionError):
            device.call(libraries.behaviour(target), "crash", [x], DOUBLED, keep=True)
        (y,), _ = device.call(double, "double", [x], DOUBLED, keep=True)
        np.testing.assert_allclose(y, 2 * x + 1, rtol=1e-6)

    # Measuring.

    def test_twice_the_work_costs_twice_as_much(
        self, device: Device, target: Target, libraries: Libraries
    ) -> None:
        library = libraries.behaviour(target)
        # The fastest of many that are shorter than a time slice: others may hold the cores.
        options = MeasureOptions(repeat=30, min_repeat_ms=1, budget_s=1.0)
        _, one = device.call(library, "spin1", [], [], measure=options)
        _, two = device.call(library, "spin2", [], [], measure=options)
        assert one is not None
        assert two is not None
        slack = 0.002 if device.unit == "instructions" else 0.5
        assert min(two.values) / min(one.values) == pytest.approx(2, rel=slack)

    def test_what_is_repeatable_costs_the_same_each_time(
        self, device: Device, target: Target, libraries: Libraries
    ) -> None:
        if not device.repeatable:
            pytest.skip("this device does not claim that a cost repeats")
        costs = []
        for _ in range(3):
            _, cost = device.call(libraries.behaviour(target), "spin1", [], [], measure=BRIEFLY)
            assert cost is not None
            costs.append(cost.median)
        assert costs == pytest.approx([costs[0]] * 3, rel=1e-3)

    def test_libraries_that_take_turns(
        self, device: Device, target: Target, libraries: Libraries
    ) -> None:
        if device.unit != "seconds":
            pytest.skip("only a device that measures seconds has libraries take turns")
        rounds = (400_000, 200_000, 100_000)
        contenders = [Contender(libraries.spin(target, each), []) for each in rounds]
        found = device.compare(contenders, "spin", [], rounds=10, min_repeat_ms=2)
        assert [len(each.values) for each in found] == [10, 10, 10]
        assert {each.unit for each in found} == {"seconds"}
        # In the order in which they were given, whatever else the machine does meanwhile.
        first, second, third = (min(each.values) for each in found)
        assert first > 1.4 * second
        assert second > 1.4 * third
        assert_works(device, target, libraries)


def matrix() -> np.ndarray:
    """The input of ``double`` and ``spoil``."""
    return np.random.default_rng(0).random((32, 16), "float32")


def assert_works(device: Device, target: Target, libraries: Libraries) -> None:
    """Check that a device computes."""
    x = matrix()
    (y,), cost = device.call(libraries.double(target), "double", [x], DOUBLED)
    np.testing.assert_allclose(y, 2 * x + 1, rtol=1e-6)
    assert cost is None


def _sockets(process: psutil.Process) -> set[tuple[object, ...]]:
    connections = process.net_connections()
    return {(c.laddr, c.raddr) for c in connections if c.type == socket.SOCK_STREAM}


def _children(process: psutil.Process) -> set[int]:
    return {child.pid for child in process.children(recursive=True)}
