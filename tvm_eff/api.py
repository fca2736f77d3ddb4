"""The whole way on one screen: PyTorch model in, validated library for a target out."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Protocol

import numpy as np

from tvm_eff import frontend, models, passes, paths, targets, tensors, tune
from tvm_eff.deploy import bundle, library
from tvm_eff.deploy.validate import validation
from tvm_eff.device import Device, Measurement, MeasureOptions, select
from tvm_eff.errors import BundleError, DeviceError, RecordError
from tvm_eff.models import Network, Program
from tvm_eff.passes import RelaxNetwork
from tvm_eff.targets import OpenCLRequirements, Target


@dataclass(frozen=True)
class FlowOptions:
    """What to build, and how.

    Attributes
    ----------
    target
        A target's name or file.
    model
        A network, or what :func:`tvm_eff.models.load` takes, such as a model's name.
    rpc
        ``HOST:PORT`` of a real board's RPC server; without it the host measures
        itself, and a board is emulated.
    key
        The key the RPC server was started with.
    logs
        The folder of records.
    output
        The folder bundles are written to.
    inputs
        How many random inputs the library is validated on.
    dtype
        What the network computes in, ``float32`` or ``float16``; its inputs and outputs stay.
    tune
        How much to try.
    """

    target: str | Path
    model: str | Network
    rpc: str | None = None
    key: str = ""
    logs: Path | None = None
    output: Path = Path("dist")
    inputs: int = 3
    dtype: str = "float32"
    tune: tune.TuneOptions = field(default_factory=tune.TuneOptions)


@dataclass(frozen=True)
class FlowResult:
    """What came out.

    Attributes
    ----------
    target
        What it was built for.
    model
        The model's name.
    dtype
        What it computes in.
    tasks
        What was found for each kernel.
    bundle
        The folder written.
    library_bytes
        Size of the library.
    where
        The device of all figures, in words.
    ran_elsewhere
        Whether that device is no board of the target's, nor emulates one.
    measurement
        What an inference costs.
    largest_error
        Against PyTorch, as a fraction of the output's spread.
    seconds
        How long everything took.
    """

    target: Target
    model: str
    dtype: str
    tasks: list[tune.TaskResult]
    bundle: Path
    library_bytes: int
    where: str
    ran_elsewhere: bool
    measurement: Measurement
    largest_error: float
    seconds: float

    @property
    def kernels_before(self) -> float:
        """What all kernels together cost unscheduled, in the measurement's unit."""
        return sum(each.before.value * each.task.calls for each in self.tasks)

    @property
    def kernels_after(self) -> float:
        """What all kernels together cost now, in the measurement's unit."""
        return sum(each.best.value * each.task.calls for each in self.tasks)


@dataclass(frozen=True)
class Tuned:
    """What became of a network's kernels.

    Attributes
    ----------
    tasks
        What was found for each kernel.
    opencl
        What their library needs of a GPU; None if it runs on the processor.
    """

    tasks: list[tune.TaskResult]
    opencl: OpenCLRequirements | None


@dataclass(frozen=True)
class Example:
    """Inputs, and the outputs that PyTorch computes for them."""

    inputs: list[np.ndarray]
    outputs: list[np.ndarray]


class Progress(tune.Progress, Protocol):
    """Hears which step the flow is at, and of every candidate."""

    def step(self, what: str) -> None:
        """A step begins."""

    def advanced(self, what: str, done: int, count: int) -> None:
        """`done` of `count` parts of something long are done."""


def build(options: FlowOptions, progress: Progress) -> FlowResult:
    """Tune a model for a target and write its validated bundle.

    Raises
    ------
    Error
        Anything a user can cause or meet: see :mod:`tvm_eff.errors`.
    """
    started = time.monotonic()
    target, model = targets.load(options.target), _network(options.model)
    # Only LLVM knows whether the processor exists; ask before anything is written or built.
    target.tvm_target()
    passes.require_dtype(target, options.dtype)
    measured = select.find(target, options.rpc, options.key, progress, options.dtype)

    progress.step(f"importing {model.name}")
    program = models.trace(model)
    imported = frontend.import_program(program)
    folder = options.output / _folder_name(model, target, options.dtype)
    _require_writable(options.output)
    bundle.require_replaceable(folder)
    examples = _examples(program, options.inputs)
    lowered = passes.lower(imported, target, options.dtype)

    tune.preload()
    progress.step(measured.opening)
    with measured.device as device, tempfile.TemporaryDirectory(prefix="tvm_eff-") as scratch:
        _require_float16(device, options)
        records = tune.RecordStore(options.logs or default_logs(target), target, device.unit)
        path = Path(scratch) / "model.so"
        tuned = build_tuned(lowered, measured.target, device, records, options.tune, progress, path)

        where = device.fingerprint.where
        progress.step(f"validating on {where}")
        golden, validated, measurement = _validate(program, examples, device, path, options.dtype)
        if measured.target != target:
            progress.step(f"compiling the library for {target.name}")
            path = _cross_compiled(lowered, tuned, records, target, path)
        bundle.write(
            folder,
            path,
            model=model.name,
            target=target,
            golden=golden,
            validation=validated,
            opencl=tuned.opencl,
            measurement=bundle.MeasuredCost(
                measurement.unit, measurement.values, where, date.today().isoformat()
            ),
        )
        return FlowResult(
            target=target,
            model=model.name,
            dtype=options.dtype,
            tasks=tuned.tasks,
            bundle=folder,
            library_bytes=path.stat().st_size,
            where=where,
            ran_elsewhere=measured.target != target,
            measurement=measurement,
            largest_error=validated.largest_error,
            seconds=time.monotonic() - started,
        )


def _folder_name(model: Network, target: Target, dtype: str) -> str:
    suffix = "" if dtype == "float32" else f"-{dtype}"
    return f"{model.name}-{target.name}{suffix}"


def _require_float16(device: Device, options: FlowOptions) -> None:
    """Find out before the search whether a board's GPU computes in half precision."""
    found = device.opencl_device
    if options.dtype == "float16" and found is not None and not found.has_float16:
        raise DeviceError(
            f"{found.name} ({found.driver}) has no {select.FLOAT16_EXTENSION}, so it cannot "
            "compute in float16; leave --dtype out"
        )


def _cross_compiled(
    lowered: RelaxNetwork,
    tuned: Tuned,
    records: tune.RecordStore,
    target: Target,
    here: Path,
) -> Path:
    """Write the library of the same kernels for the board, whose processor launches them."""
    path = here.with_name("board.so")
    tasks = [each.task for each in tuned.tasks]
    library.build_library(lowered, tasks, records.database, target, path)
    return path


def _network(model: str | Network) -> Network:
    return models.load(model) if isinstance(model, str) else model


def _examples(program: Program, count: int) -> list[Example]:
    """Random inputs, and what PyTorch computes for them."""
    drawn = [tensors.random_inputs(program.network.inputs, seed) for seed in range(count)]
    return [Example(inputs, program.run(inputs)) for inputs in drawn]


def build_tuned(
    lowered: RelaxNetwork,
    target: Target,
    device: Device,
    records: tune.RecordStore,
    options: tune.TuneOptions,
    progress: Progress,
    path: Path,
) -> Tuned:
    """Tune the kernels of a lowered network on an open device, and write its library to `path`.

    Raises
    ------
    Error
        As for :func:`tvm_eff.tune.tune` and :func:`tvm_eff.deploy.library.build_library`.
    """
    tasks = tune.extract(lowered.mod)
    found = tune.tune(tasks, target, device, records, options, progress)
    progress.step("compiling the library")
    opencl = library.build_library(lowered, tasks, records.database, target, path)
    return Tuned(found, opencl)


def _validate(
    program: Program, examples: Sequence[Example], device: Device, path: Path, dtype: str
) -> tuple[bundle.Golden, bundle.Validation, Measurement]:
    """Compare a library with PyTorch; the first example is measured, and becomes the golden one."""
    inputs = [each.inputs for each in examples]
    outputs = [each.outputs for each in examples]
    validated, measurement = validation(device, path, inputs, outputs, dtype, MeasureOptions())
    assert measurement is not None, "a measurement was asked for"
    return (
        bundle.Golden(
            dict(zip(program.inputs, inputs[0], strict=True)),
            dict(zip(program.outputs, outputs[0], strict=True)),
        ),
        validated,
        measurement,
    )


def _require_writable(folder: Path) -> None:
    """Find out before the search that its result can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BundleError(
            f"cannot write to the output folder {folder}: {error.strerror}; "
            "name another with --output FOLDER"
        ) from error


def default_logs(target: Target) -> Path:
    """The user's folder of records; an installed package's own records are copied there first."""
    logs = paths.tuning_logs()
    shipped = paths.data_folder("tuning_logs") / target.log_name
    own = logs / target.log_name
    if shipped.is_dir() and not own.exists():
        try:
            shutil.copytree(shipped, own)
        except OSError as error:
            raise RecordError(
                f"cannot write the records to {own}: {error}; name a folder with --logs FOLDER"
            ) from error
    return logs
