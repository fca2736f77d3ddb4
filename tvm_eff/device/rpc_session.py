"""A device reached over a TVM RPC session: what local, remote and emulated ones share."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import tvm
from tvm import relax, rpc
from typing_extensions import override

from tvm_eff.device import native, remote_opencl
from tvm_eff.device.base import Contender, Device, Measurement, MeasureOptions, Unit
from tvm_eff.device.connection import Connection, SessionLostError
from tvm_eff.device.opencl import OpenCLDevice
from tvm_eff.device.tensor_cache import TensorCache
from tvm_eff.device.trouble import failure
from tvm_eff.errors import DeviceError, ExecutionError, UsageError
from tvm_eff.tensors import TensorSpec

Result = TypeVar("Result")
_LOOK_S = 1e-3
_LOOKS = 3
# A single call may have been interrupted; one as long as this was not by enough to matter.
_LONG_S = 5e-3
Evaluate = Callable[[int, int], Sequence[float]]


@dataclass(frozen=True)
class _Loaded:
    """A library that stays on the device, and what runs it there."""

    content: bytes
    module: Any
    machine: relax.VirtualMachine | None = None


class RpcSessionDevice(Device):
    """Runs calls over one session, which is kept open and replaced after a failure.

    Parameters
    ----------
    timeout
        How long one call may take, upload and measurement included, in seconds.
    device_type
        What functions run on there, as TVM calls it: ``cpu``, or ``opencl``.
    """

    def __init__(self, timeout: float, device_type: str = "cpu") -> None:
        self._timeout = timeout
        self._device_type = device_type
        self._connection: Connection | None = None
        self._kept = TensorCache()
        self._opencl_device: OpenCLDevice | None = None
        self._loaded: _Loaded | None = None

    @property
    @override
    def unit(self) -> Unit:
        return "seconds"

    @abstractmethod
    def _connect(self) -> Connection:
        """Start what must be started and open a session."""

    @abstractmethod
    def _reconnect(self, *, hung: bool) -> Connection:
        """Open a session after the last one was lost, perhaps to code that still runs."""

    def _renew(self) -> None:
        """Replace a session that will end by itself before the next call does."""

    @property
    def opencl_device(self) -> OpenCLDevice | None:
        """The OpenCL device that functions run on; None if they run on the processor."""
        return self._opencl_device

    @override
    def open(self) -> None:
        if self._connection is not None:
            return
        self._connection = self._connect()
        if self._device_type == "opencl":
            self._opencl_device = self._find_opencl()

    @override
    def close(self) -> None:
        self.forget()
        self._opencl_device = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @override
    def forget(self) -> None:
        self._kept.clear()
        self._loaded = None

    @override
    def health(self) -> None:
        ones = np.ones(16, "float32")

        def echo(session: rpc.RPCSession) -> bool:
            return np.array_equal(tvm.runtime.tensor(ones, self._device(session)).numpy(), ones)

        try:
            sane = self._attempt("the health check", echo)
        except ExecutionError as error:
            raise DeviceError(str(error)) from error
        if not sane:
            raise DeviceError("the device returns other bytes than it was sent; check the network")

    @override
    def call(
        self,
        library: Path,
        symbol: str,
        inputs: Sequence[np.ndarray],
        outputs: Sequence[TensorSpec],
        *,
        measure: MeasureOptions | None = None,
        keep: bool = False,
    ) -> tuple[list[np.ndarray], Measurement | None]:
        content = _content(library)
        tensors = self._kept if keep else TensorCache()

        def work(session: rpc.RPCSession) -> tuple[list[np.ndarray], Measurement | None]:
            device = self._device(session)
            with self._module(content) as module:
                function = module[symbol]
                sent, filled = tensors.send(inputs, device), tensors.unwritten(outputs, device)
                function(*sent, *filled)
                results = [tensor.numpy() for tensor in filled]
                if measure is None:
                    return results, None

                evaluate = _evaluator(module, symbol, device, [*sent, *filled])
                return results, self._measure(lambda: function(*sent, *filled), evaluate, measure)

        return self._attempt(f"'{symbol}' of {library.name}", work)

    @override
    def compare(
        self,
        contenders: Sequence[Contender],
        symbol: str,
        outputs: Sequence[TensorSpec],
        *,
        rounds: int,
        min_repeat_ms: float,
    ) -> list[Measurement]:
        contents = [_content(each.library) for each in contenders]

        def work(session: rpc.RPCSession) -> list[Measurement]:
            device = self._device(session)
            with ExitStack() as stack:
                evaluators = []
                filled = TensorCache().unwritten(outputs, device)
                sending = TensorCache()
                for content, each in zip(contents, contenders, strict=True):
                    module = stack.enter_context(self._opened().uploaded(content))
                    arguments = [*sending.send(each.inputs, device), *filled]
                    evaluators.append(_evaluator(module, symbol, device, arguments))
                return _take_turns(evaluators, rounds, min_repeat_ms / 1e3)

        return self._attempt(f"{len(contenders)} libraries of '{symbol}'", work)

    @override
    def run(
        self,
        library: Path,
        inputs: Sequence[np.ndarray],
        *,
        function: str = "main",
        measure: MeasureOptions | None = None,
        keep: bool = False,
    ) -> tuple[list[np.ndarray], Measurement | None]:
        content = _content(library)

        def work(session: rpc.RPCSession) -> tuple[list[np.ndarray], Measurement | None]:
            device = self._device(session)
            if native.is_native(content):
                with self._module(content, keep) as module:
                    return self._run_native(module, function, inputs, device, measure)
            with self._machine(content, device, keep) as machine:
                sent = [tvm.runtime.tensor(array, device) for array in inputs]
                machine.set_input(function, *sent)
                machine.invoke_stateful(function)
                results = _flat(machine.get_outputs(function))
                if measure is None:
                    return results, None

                def evaluate(number: int, repeat: int) -> Sequence[float]:
                    timed = machine.time_evaluator(
                        "invoke_stateful", device, number=number, repeat=repeat
                    )
                    return timed(function).results

                return results, self._measure(
                    lambda: machine.invoke_stateful(function), evaluate, measure
                )

        return self._attempt(f"'{function}' of {library.name}", work)

    def _run_native(
        self,
        module: Any,
        function: str,
        inputs: Sequence[np.ndarray],
        device: Any,
        measure: MeasureOptions | None,
    ) -> tuple[list[np.ndarray], Measurement | None]:
        sent = [tvm.runtime.tensor(array, device) for array in inputs]
        filled = TensorCache().unwritten(native.outputs_of(module), device)
        call = module[function]
        call(*sent, *filled)
        results = [each.numpy() for each in filled]
        if measure is None:
            return results, None
        evaluate = _evaluator(module, function, device, [*sent, *filled])
        return results, self._measure(lambda: call(*sent, *filled), evaluate, measure)

    @contextmanager
    def _module(self, content: bytes, keep: bool = False) -> Iterator[Any]:
        """Lend a library: the one that was kept, or a new one, which may be kept."""
        if self._loaded is not None and self._loaded.content == content:
            yield self._loaded.module
            return
        if keep:
            self._loaded = None
        with self._opened().uploaded(content) as module:
            if keep:
                self._loaded = _Loaded(content, module)
            yield module

    @contextmanager
    def _machine(self, content: bytes, device: Any, keep: bool) -> Iterator[relax.VirtualMachine]:
        """Lend the virtual machine of a library: the one that was kept, or a new one."""
        kept = self._loaded
        if keep and kept is not None and kept.machine is not None and kept.content == content:
            yield kept.machine
            return
        self._loaded = None
        with self._opened().uploaded(content) as module:
            machine = relax.VirtualMachine(module, device)
            if keep:
                self._loaded = _Loaded(content, module, machine)
            yield machine

    def _measure(
        self, once: Callable[[], None], evaluate: Evaluate, options: MeasureOptions
    ) -> Measurement:
        first = evaluate(1, 1)[0]
        if options.stop_above < first < max(_LONG_S, 3 * options.stop_above):
            first = min(evaluate(max(1, round(_LOOK_S / first)), _LOOKS))
        if first >= min(options.budget_s, options.stop_above):
            return Measurement((first,), "seconds")
        number = max(1, round(options.min_repeat_ms / 1e3 / max(first, 1e-7)))
        affordable = int(options.budget_s / (number * max(first, 1e-7)))
        values = evaluate(number, min(options.repeat, max(1, affordable)))
        return Measurement(tuple(values), "seconds")

    def _find_opencl(self) -> OpenCLDevice:
        try:
            return remote_opencl.usable(self._attempt("asking for OpenCL", remote_opencl.ask))
        except (DeviceError, ExecutionError) as error:
            self.close()
            raise DeviceError(str(error)) from error

    def _device(self, session: rpc.RPCSession) -> Any:
        return session.device(self._device_type)

    def _opened(self) -> Connection:
        if self._connection is None:
            raise DeviceError("the device is not open; use it in a 'with' statement")
        return self._connection

    def _attempt(self, what: str, work: Callable[[rpc.RPCSession], Result]) -> Result:
        self._opened()
        self._renew()
        connection = self._opened()
        try:
            with connection.limit(self._timeout) as session:
                return work(session)
        except SessionLostError as lost:
            self._replace(what, lost)
            raise failure(self.where, what, lost) from lost
        except BaseException:
            # An interrupt may have left an answer half read. The connection goes first: to free
            # what is kept would wait for the code that was interrupted.
            connection.close()
            self.close()
            raise

    def _replace(self, what: str, lost: SessionLostError) -> None:
        self.forget()
        self._opened().close()
        self._connection = None
        try:
            self._connection = self._reconnect(hung=lost.hung)
        except DeviceError as error:
            raise DeviceError(f"{what}: {lost}; the device did not come back: {error}") from error


def wait_for(connect: Callable[[], Connection], seconds: float) -> Connection:
    """Try to connect until it works or `seconds` have passed."""
    end = time.monotonic() + seconds
    while True:
        try:
            return connect()
        except DeviceError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def _content(library: Path) -> bytes:
    try:
        return library.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the library {library}: {error.strerror}") from error


def _evaluator(module: Any, symbol: str, device: Any, arguments: Sequence[Any]) -> Evaluate:
    def evaluate(number: int, repeat: int) -> Sequence[float]:
        timed = module.time_evaluator(symbol, device, number=number, repeat=repeat)
        return timed(*arguments).results

    return evaluate


def _take_turns(evaluators: Sequence[Evaluate], rounds: int, seconds: float) -> list[Measurement]:
    numbers = []
    for evaluate in evaluators:
        first = min(evaluate(1, 2))
        numbers.append(max(1, round(seconds / max(first, 1e-7))))
    values: list[list[float]] = [[] for _ in evaluators]
    for turn in range(rounds):
        # Every other round backwards, so that none always follows the same one.
        order = range(len(evaluators)) if turn % 2 == 0 else range(len(evaluators))[::-1]
        for each in order:
            values[each] += evaluators[each](numbers[each], 1)
    return [Measurement(tuple(each), "seconds") for each in values]


def _flat(outputs: Any) -> list[np.ndarray]:
    if isinstance(outputs, tuple | list):
        return [array for field in outputs for array in _flat(field)]
    return [outputs.numpy()]
