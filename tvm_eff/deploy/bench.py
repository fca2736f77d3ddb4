"""Time a bundle where it can run, always after checking its outputs."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

from tvm_eff.deploy import gpu, machine
from tvm_eff.deploy.accuracy import Case
from tvm_eff.deploy.bundle import Bundle, read
from tvm_eff.deploy.manifest import MadeFor
from tvm_eff.deploy.validate import validate
from tvm_eff.device import Device, Measurement, MeasureOptions, selection
from tvm_eff.errors import BundleError, NoneType, UsageError, require_kind
from tvm_eff.targets.detect import usable_cores

_BUDGET_S = 60.0
_TIMEOUT_S = 180.0


@dataclass(frozen=True)
class Options:
    """What to time, and where.

    Attributes
    ----------
    bundle
        The bundle's folder.
    rpc
        ``HOST:PORT`` of a TVM RPC server.
    key
        The server's key.
    emulated
        Whether to use the emulated board.
    threads
        Threads on this machine; all cores if not given.
    repeat
        Inferences to time. A slow board does fewer, so that it ends within a minute.
    public_key
        The file of the Ed25519 key whose owner must have signed the bundle; None takes any.
    """

    bundle: Path
    rpc: str | None = None
    key: str = ""
    emulated: bool = False
    threads: int | None = None
    repeat: int = 50
    public_key: Path | None = None


@dataclass(frozen=True)
class Report:
    """What a bundle cost, and where.

    Attributes
    ----------
    bundle
        The bundle.
    measurement
        The cost of an inference.
    where
        The device, in words.
    largest_error
        The largest error of the golden outputs, as a fraction of their spread.
    note
        What the reader must know about the choice of the device; may be empty.
    """

    bundle: Bundle
    measurement: Measurement
    where: str
    largest_error: float
    note: str

    def text(self) -> str:
        """Return it for people."""
        manifest = self.bundle.manifest
        checked = (
            f"outputs correct: largest error {self.largest_error:.1e} of the spread, "
            f"{manifest.validation.tolerance:.1e} allowed"
        )
        title = f"{manifest.model} for {manifest.target.name}"
        lines = [title, checked, self._figures(), f"where: {self.where}"]
        return "\n".join([*lines, *([self.note] if self.note else [])])

    def as_dict(self) -> dict[str, Any]:
        """Return it for programs."""
        manifest = self.bundle.manifest
        cost = self.measurement
        figures: dict[str, Any] = {"unit": cost.unit, "values": list(cost.values)}
        if cost.unit == "seconds":
            figures |= {
                f"p{percent}_ms": cost.percentile(percent) * 1e3 for percent in (10, 50, 90)
            }
        return {
            "bundle": str(self.bundle.folder),
            "model": manifest.model,
            "target": manifest.target.name,
            **figures,
            "where": self.where,
            "largest_error": self.largest_error,
            "tolerance": manifest.validation.tolerance,
            "note": self.note,
        }

    def _figures(self) -> str:
        cost = self.measurement
        if cost.unit == "instructions":
            return f"{cost.median / 1e6:.3f} million instructions executed; this is not a latency"
        p10, p50, p90 = (f"{cost.percentile(percent) * 1e3:.3f}" for percent in (10, 50, 90))
        count = len(cost.values)
        return f"p10 {p10} ms, p50 {p50} ms, p90 {p90} ms ({count} inference{'s' * (count > 1)})"


def bench(options: Options) -> Report:
    """Check a bundle's golden outputs, then time it.

    Raises
    ------
    UsageError
        The options do not fit together, or not the bundle.
    BundleError
        The bundle is incomplete, damaged, or runs nowhere that was named.
    ValidationError
        Its outputs are wrong where it ran.
    DeviceError, ExecutionError, SetupError
        The device cannot be reached, or fails.
    """
    _check(options)
    bundle = read(options.bundle, public_key=options.public_key)
    golden = bundle.golden()
    device, note = _choose(options, bundle)
    # Each value is one inference.
    measure = MeasureOptions(options.repeat, min_repeat_ms=0, budget_s=_BUDGET_S)
    validation = bundle.manifest.validation
    case = Case(
        list(golden.inputs.values()),
        list(golden.outputs.values()),
        recorded_errors=validation.reference_errors,
    )
    made_for = bundle.manifest.target
    with device:
        machine.require_suitable(device, made_for.name, made_for.arch, made_for.cpu_features)
        gpu.require(bundle.manifest.target.opencl, device.opencl_device, bundle.library)
        error, measurement, _ = validate(
            device,
            bundle.library,
            [case],
            validation.tolerance,
            measure,
            classes=validation.same_class is True,
        )
        where = device.where
    assert measurement is not None
    return Report(bundle, measurement, where, error, note)


def _check(options: Options) -> None:
    require_kind("rpc", options.rpc, str, NoneType)
    require_kind("key", options.key, str)
    require_kind("emulated", options.emulated, bool)
    require_kind("threads", options.threads, Integral, NoneType)
    require_kind("repeat", options.repeat, Integral)
    for what, count in (("threads", options.threads), ("repeat", options.repeat)):
        if count is not None and count < 1:
            raise UsageError(f"{what} is {count}; give at least 1")
    if options.rpc is not None and options.emulated:
        raise UsageError("--rpc and --emulated are two places; give one of them")
    if options.rpc is None and options.key:
        raise UsageError("--key is the key of an RPC server; give --rpc HOST:PORT as well")
    if options.rpc is not None and options.threads is not None:
        raise UsageError(
            "--threads sets this machine's threads; a board's are set where its server is "
            "started: TVM_NUM_THREADS=4 ./tvm_eff_server ..."
        )


def _choose(options: Options, bundle: Bundle) -> tuple[Device, str]:
    """Return where to run, and what to tell the reader about it."""
    made_for = bundle.manifest.target
    if options.rpc is not None:
        opencl = made_for.opencl is not None
        return selection.remote(options.rpc, options.key, opencl=opencl, timeout=_TIMEOUT_S), ""
    reason = machine.incompatibility(made_for)
    if reason is None and not options.emulated:
        return _local(options, made_for), ""
    if made_for.emulator is not None:
        return _emulated(options, made_for), "" if options.emulated else _explain(made_for, reason)
    if options.emulated:
        raise UsageError(f"{made_for.name} has no emulated board; leave --emulated out")
    raise BundleError(
        f"{options.bundle} was made for {made_for.name} ({made_for.arch}); {reason}; "
        "give --rpc HOST:PORT of a machine that can run it"
    )


def _local(options: Options, made_for: MadeFor) -> Device:
    if options.threads is not None and options.threads > usable_cores():
        raise UsageError(
            f"--threads {options.threads} is more than the {usable_cores()} cores that this "
            "process may use, where they would only wait for each other"
        )
    if made_for.opencl is None:
        return selection.local(options.threads, _TIMEOUT_S)
    if options.threads is not None:
        raise UsageError(f"{made_for.name} runs kernels on the GPU; leave --threads out")
    return selection.local_opencl(made_for.opencl.extensions, _TIMEOUT_S)


def _emulated(options: Options, made_for: MadeFor) -> Device:
    if options.threads is not None:
        raise UsageError("the emulated board runs one thread; leave --threads out")
    assert made_for.emulator is not None
    return selection.emulated(made_for.emulator.arch, made_for.emulator.cpu, timeout=_TIMEOUT_S)


def _explain(made_for: MadeFor, reason: str | None) -> str:
    return (
        f"It ran on the emulated board, since it was made for {made_for.name} and {reason}; "
        "--rpc HOST:PORT times it on a real one."
    )
