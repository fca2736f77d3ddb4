"""The whole way on one page: PyTorch model in, validated library for a target out."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import date
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from tvm_eff import device as devices
from tvm_eff import frontend, models, passes, paths, targets, tensors, tune
from tvm_eff.deploy import bundle, machine
from tvm_eff.deploy.accuracy import Case
from tvm_eff.deploy.bundle import Bundle, Golden, MeasuredCost
from tvm_eff.deploy.library import build_library, kernel_schedules
from tvm_eff.deploy.manifest import DataValidation
from tvm_eff.deploy.own_data import validate_on_data
from tvm_eff.deploy.proof import prove
from tvm_eff.deploy.report import CompileReport
from tvm_eff.deploy.validate import validation, validation_cases
from tvm_eff.device import Device, MeasureOptions, SelectedDevice
from tvm_eff.device.selection import FLOAT16_EXTENSION
from tvm_eff.errors import (
    BundleError,
    DeviceError,
    NoneType,
    RecordError,
    UsageError,
    require_kind,
    require_positive,
)
from tvm_eff.models import Network, Program
from tvm_eff.passes import pipeline
from tvm_eff.progress import CountingProgress, Progress, progress_of
from tvm_eff.scratch import scratch_folder
from tvm_eff.targets import Target

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram


def compile(
    model: nn.Module | ExportedProgram | Network | str,
    inputs: models.Tensors | None = None,
    *,
    target: str | Path | Target = "host",
    dtype: str = "float32",
    input_shapes: Sequence[Sequence[int]] = (),
    input_dtypes: Sequence[str] = (),
    weights: str | Path | None = None,
    width: float | None = None,
    resolution: int | None = None,
    preprocess: str | models.Preprocessing | None = None,
    state: bool = False,
    name: str | None = None,
    rpc: str | None = None,
    key: str = "",
    device: Device | None = None,
    logs: str | Path | None = None,
    output: str | Path = "dist",
    validation_inputs: int = 3,
    validation_data: models.Samples | None = None,
    trials: int | None = None,
    workers: int | None = None,
    budget: float = math.inf,
    until_roofline: float = math.inf,
    measure: bool = True,
    retry_failed: bool = False,
    proof: bool = True,
    dump_ir: str | Path | None = None,
    progress: Progress | Literal["rich"] | None = None,
) -> Bundle:
    """Compile a model for a target: trace, import, tune, build, run, validate, and write.

    Parameters
    ----------
    model
        A module, with example `inputs`; a program of ``torch.export``; or what the command
        line takes: a name of the zoo, ``FILE.py:NAME``, ``PACKAGE.MODULE:NAME``, a ``.pt2``
        file.
    inputs
        Example tensors of a module: their shapes and dtypes become the library's, and they
        are the first inputs that it is validated on.
    target
        A target, its name, or the path of its file.
    dtype
        What the network computes in, ``float32`` or ``float16``; its inputs and outputs stay.
    input_shapes, input_dtypes, weights, width, resolution
        Of a model that is named: see :func:`tvm_eff.models.load`.
    preprocess
        What of an image's preparation the library does: see :class:`tvm_eff.models.Preprocessing`.
    state
        Whether buffers that the model writes become inputs and outputs, the last ones, named
        ``state_`` and the buffer; the golden inputs hold the values to start from.
    name
        What the bundle calls the model; its class' or its own name by default.
    rpc, key
        ``HOST:PORT`` of a board's RPC server and its key. Without it the host measures
        itself, a board is emulated, and a GPU's kernels run on this machine's OpenCL device.
    device
        A device of your own to measure on, not yet open, in the place of these.
    logs
        The folder of records; ``tuning_logs`` by default.
    output
        The folder bundles are written to.
    validation_inputs
        How many inputs the library is validated on, besides `inputs`: noise, then what images
        and padding are, then the limits of narrow integers, then noise again.
    validation_data
        Data of your own to validate it on as well: see :func:`tvm_eff.models.read_samples`. With
        labels, the manifest has the share that the library and PyTorch get right.
    trials, workers, budget, until_roofline, measure, retry_failed
        How much to try: see :class:`tvm_eff.tune.TuneOptions`.
    proof
        Whether each operator as imported is compared with PyTorch's before anything is tuned.
    dump_ir
        A new folder for the module after each pass.
    progress
        ``"rich"`` shows it on standard error; or what events are told to.

    Returns
    -------
    Bundle
        What was written; its ``report`` says what was found on the way.

    Raises
    ------
    Error
        Anything a user can cause or meet: see :mod:`tvm_eff.errors`.
    """
    _require_kinds(
        {"target": target, "output": output, "dtype": dtype, "key": key},
        {"logs": logs, "dump_ir": dump_ir, "weights": weights, "rpc": rpc, "name": name},
        {"trials": trials, "workers": workers, "resolution": resolution},
        {"budget": budget, "until_roofline": until_roofline},
    )
    require_kind("validation_inputs", validation_inputs, Integral)
    require_kind("width", width, Real, NoneType)
    require_kind("device", device, Device, NoneType)
    for what, listed in (("input_shapes", input_shapes), ("input_dtypes", input_dtypes)):
        require_kind(what, listed, list, tuple)
    require_positive(trials=trials, workers=workers)
    tune.leave_script()
    chosen = target if isinstance(target, Target) else targets.load(target)
    options = tune.TuneOptions(
        trials=trials,
        workers=workers,
        budget=budget,
        until_roofline=until_roofline,
        measure=measure,
        retry_failed=retry_failed,
    )
    with ExitStack() as stack:
        shown = progress_of(progress, stack)
        examples = models.example_arrays(inputs)
        network = models.network_of(
            model,
            examples,
            name,
            input_shapes=input_shapes,
            input_dtypes=input_dtypes,
            weights=weights,
            width=width,
            resolution=resolution,
            preprocess=preprocess,
            state=bool(state),
        )
        _require_validation(examples, validation_inputs)
        stack.enter_context(models.inference_mode(network))
        # Only LLVM knows whether the processor exists; ask before anything is written or built.
        chosen.tvm_target()
        passes.require_dtype(chosen, dtype)
        selected = _select(chosen, rpc, key, device, shown, dtype)
        stack.enter_context(pipeline.dumping(None if dump_ir is None else Path(dump_ir)))
        suffix = [] if dtype == "float32" else [dtype]
        job = _Job(
            network=network,
            target=chosen,
            dtype=dtype,
            selected=selected,
            logs=default_logs(chosen) if logs is None else Path(logs),
            folder=Path(output) / "-".join([network.name, chosen.name, *suffix]),
            tuning=options,
            proof=bool(proof),
            data=validation_data,
            progress=CountingProgress(shown),
        )
        return job.run(examples, validation_inputs)


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


@dataclass(frozen=True)
class _Job:
    """One compilation, all of whose options are checked."""

    network: Network
    target: Target
    dtype: str
    selected: SelectedDevice
    logs: Path
    folder: Path
    tuning: tune.TuneOptions
    proof: bool
    data: models.Samples | None
    progress: CountingProgress

    def run(self, examples: Sequence[np.ndarray] | None, random_inputs: int) -> Bundle:
        """Do it."""
        started = time.monotonic()
        self.progress.step(f"importing {self.network.name}")
        program = models.trace(self.network)
        self._require_data(program)
        core = frontend.decompose(program)
        imported = frontend.import_program(program, core)
        _require_writable(self.folder.parent)
        bundle.require_replaceable(self.folder)
        cases = validation_cases(program, examples, random_inputs)
        given = examples is not None or self.network.state
        known = {"the example inputs": cases[0].inputs} if given else {}
        proved = self._prove(program, core, known) if self.proof else None
        lowered = passes.lower(imported, self.target, self.dtype)

        if self.tuning.measure:
            tune.preload()
        self.progress.step(self.selected.opening)
        with self.selected.device as device, scratch_folder() as scratch:
            self._require_suitable(device)
            tasks = self._tune(lowered, device)
            library = scratch / "model.so"
            winners = tune.winners(tasks)
            self.progress.step("compiling the library")
            opencl = build_library(lowered, winners, self.selected.target, library)
            self.progress.step(f"validating on {device.where}")
            validated, measurement = validation(
                device, library, cases, self.dtype, MeasureOptions()
            )
            assert measurement is not None, "a measurement was asked for"
            on_data = self._on_data(device, library, program)
            if self.selected.target != self.target:
                self.progress.step(f"compiling the library for {self.target.name}")
                library = library.with_name("board.so")
                build_library(lowered, winners, self.target, library)
            report = CompileReport(
                target=self.target,
                dtype=self.dtype,
                tasks=tasks,
                where=device.where,
                ran_elsewhere=self.selected.target != self.target,
                measurement=measurement,
                measured=self.progress.count,
                failed=self.progress.failures,
                seconds=time.monotonic() - started,
            )
            return bundle.write(
                self.folder,
                library,
                model=self.network.name,
                target=self.target,
                golden=_golden(program, cases[0]),
                validation=replace(validated, operators_proved=proved, data=on_data),
                opencl=opencl,
                kernels=kernel_schedules(lowered, winners),
                measurement=MeasuredCost(
                    measurement.unit, measurement.values, device.where, date.today().isoformat()
                ),
                report=report,
            )

    def _prove(
        self, program: Program, core: ExportedProgram, known: Mapping[str, Sequence[np.ndarray]]
    ) -> int:
        self.progress.step("comparing its operators with PyTorch's")
        return prove(program, core, {**known, **tensors.varied_inputs(self.network.inputs)})

    def _require_data(self, program: Program) -> None:
        """Find out before the search that the data can be read."""
        if self.data is not None:
            next(models.read_samples(self.data, self.network.inputs, program.inputs))

    def _on_data(self, device: Device, library: Path, program: Program) -> DataValidation | None:
        if self.data is None:
            return None
        source = models.source_of(self.data)
        self.progress.step(f"comparing with PyTorch on {source}")
        samples = models.read_samples(self.data, self.network.inputs, program.inputs)

        def done(count: int) -> None:
            self.progress.advanced("samples", count, None)

        return validate_on_data(device, library, program, samples, self.dtype, source, done)

    def _require_suitable(self, device: Device) -> None:
        """Find out before the search whether the library can run there."""
        target, needed = self.target, machine.needed_features(self.target)
        machine.require_suitable(device, target.name, target.architecture.name, needed)
        _require_float16(device, self.dtype)

    def _tune(self, lowered: passes.RelaxNetwork, device: Device) -> list[tune.TaskResult]:
        records = tune.RecordStore.of(self.logs, self.target, device)
        tasks = tune.extract(lowered.mod)
        return tune.tune(tasks, self.selected.target, device, records, self.tuning, self.progress)


def _require_kinds(
    texts: Mapping[str, object],
    optional_texts: Mapping[str, object],
    optional_counts: Mapping[str, object],
    numbers: Mapping[str, object],
) -> None:
    paths_too: dict[str, tuple[type, ...]] = {
        "target": (os.PathLike, Target),
        **dict.fromkeys(("output", "logs", "dump_ir", "weights"), (os.PathLike,)),
    }
    for group, none in ((texts, ()), (optional_texts, (NoneType,))):
        for what, value in group.items():
            require_kind(what, value, str, *paths_too.get(what, ()), *none)
    for what, value in optional_counts.items():
        require_kind(what, value, Integral, NoneType)
    for what, value in numbers.items():
        require_kind(what, value, Real)


def _require_validation(examples: Sequence[np.ndarray] | None, random_inputs: int) -> None:
    if random_inputs < 0 or (random_inputs == 0 and examples is None):
        raise UsageError(
            f"with {random_inputs} validation inputs and no examples nothing would be compared "
            "with PyTorch; leave validation_inputs out"
        )


def _select(
    target: Target,
    rpc: str | None,
    key: str,
    device: Device | None,
    progress: Progress,
    dtype: str,
) -> SelectedDevice:
    if device is None:
        return devices.select(target, rpc, key, progress, dtype)
    if rpc is not None:
        raise UsageError("a device and the address of an RPC server are two places; give one")
    return SelectedDevice(device, target, "opening the device")


def _require_float16(device: Device, dtype: str) -> None:
    """Find out before the search whether a board's GPU computes in half precision."""
    found = device.opencl_device
    if dtype == "float16" and found is not None and not found.has_float16:
        raise DeviceError(
            f"{found.name} ({found.driver}) has no {FLOAT16_EXTENSION}, so it cannot "
            "compute in float16; leave --dtype out"
        )


def _golden(program: Program, case: Case) -> Golden:
    """What the bundle checks itself with."""
    return Golden(
        dict(zip(program.inputs, case.inputs, strict=True)),
        dict(zip(program.outputs, case.expected, strict=True)),
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
