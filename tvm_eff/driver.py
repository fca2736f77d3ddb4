"""One compilation, from checked options to a bundle: every step in order."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np

from tvm_eff import models, passes, tensors, tune
from tvm_eff.codegen.archive import StaticArchive
from tvm_eff.deploy import bundle_writer, machine
from tvm_eff.deploy.accuracy import Case
from tvm_eff.deploy.bundle import Bundle, Golden, MeasuredCost
from tvm_eff.deploy.inspection import require_declared
from tvm_eff.deploy.library import build_library, kernel_schedules, schedule_kernels
from tvm_eff.deploy.manifest import DataValidation, Format, RuntimeChoice, WeightInfo
from tvm_eff.deploy.native import library as native_library
from tvm_eff.deploy.native.plan import Plan
from tvm_eff.deploy.own_data import validate_on_data
from tvm_eff.deploy.proof import prove
from tvm_eff.deploy.report import CompileReport
from tvm_eff.deploy.size_bound import size_bound
from tvm_eff.deploy.source import Precision, Source, chosen_source, quantized_source, source_of
from tvm_eff.deploy.validate import validation, validation_cases
from tvm_eff.deploy.weights import modules_of, weight_table
from tvm_eff.device import Device, Measurement, MeasureOptions, SelectedDevice
from tvm_eff.device.selection import FLOAT16_EXTENSION
from tvm_eff.errors import BundleError, DeviceError, ModelError
from tvm_eff.models import Network, Program
from tvm_eff.progress import CountingProgress
from tvm_eff.scratch import scratch_folder
from tvm_eff.targets import OpenCLRequirements, Target


@dataclass(frozen=True)
class _Built:
    """What a library needs of a GPU, what a native one does, and the weights it has."""

    opencl: OpenCLRequirements | None
    plan: Plan | None
    weights: tuple[WeightInfo, ...]


@dataclass(frozen=True)
class Compilation:
    """One compilation, all of whose options are checked.

    Attributes
    ----------
    network, target, precision
        What is compiled, what for, and what it is to be computed in.
    selected
        Where candidates are measured and the library is validated.
    logs, folder
        The folder of records, and that of the bundle.
    tuning
        How much to try.
    proof
        Whether each operator as imported is compared with PyTorch's.
    runtime
        What runs the library: with ``auto``, its own code wherever that can.
    form
        What a native library is made as, besides the shared library.
    pack_at_load
        Whether weights that are larger as kernels read them are made when it is loaded.
    data
        Data of the user's own to validate it on; None for none.
    size
        The bytes that the library may have; None for any.
    day
        The day that what is measured is dated.
    progress
        What events are told to.
    """

    network: Network
    target: Target
    precision: Precision
    selected: SelectedDevice
    logs: Path
    folder: Path
    tuning: tune.TuneOptions
    proof: bool
    runtime: RuntimeChoice
    form: Format
    pack_at_load: bool
    data: models.Samples | None
    size: int | None
    day: date
    progress: CountingProgress

    def run(self, examples: Sequence[np.ndarray] | None, random_inputs: int) -> Bundle:
        """Compile, and write the bundle."""
        started, source = time.monotonic(), self._source()
        program = source.program
        _require_writable(self.folder.parent)
        bundle_writer.require_replaceable(self.folder)
        cases = validation_cases(program, examples, random_inputs)
        tolerance = source.tolerance
        given = examples is not None or self.network.state
        proved = self._prove(source, cases[0] if given else None) if self.proof else None
        lowered = passes.lower(source.imported, self.target, source.dtype)
        obstacle = self._obstacle(lowered)
        bound = size_bound(self.network.name, lowered, self.size)
        if self.tuning.measure:
            tune.preload()
        self.progress.step(self.selected.opening)
        with self.selected.device as device, scratch_folder() as scratch:
            self._require_suitable(device)
            records, fastest = self._tune(lowered, device)
            self.progress.step("compiling the library")
            library = scratch / "model.so"
            build = partial(self._build, program, lowered, obstacle is None)
            tasks, built = bound.choose(fastest, records, self.selected.target, library, build)
            self.progress.step(f"validating on {device.where}")
            validated, measurement, decided = validation(
                device, library, cases, source.dtype, MeasureOptions(), tolerance
            )
            assert measurement is not None, "a measurement was asked for"
            validated = replace(
                validated,
                operators_proved=proved,
                data=self._on_data(device, library, source, tolerance),
                quantization=source.quantization,
            )
            if self.selected.target != self.target:
                self.progress.step(f"compiling the library for {self.target.name}")
                library = library.with_name("board.so")
                tasks, built = bound.choose(tasks, records, self.target, library, build)
            undecided = len(cases) - len(decided) - (validated.half_precision_limit is not None)
            report = self._report(
                device, source.dtype, tasks, fastest, measurement, obstacle, undecided, started
            )
            return bundle_writer.write(
                self.folder,
                library,
                model=self.network.name,
                target=self.target,
                golden=_golden(program, (cases if self.network.state else decided)[0]),
                validation=validated,
                opencl=built.opencl,
                weights=built.weights,
                kernels=kernel_schedules(lowered, tune.winners(tasks)),
                measurement=_cost(measurement, device.where, self.day),
                report=report,
                plan=built.plan,
                static=self._archive(library),
            )

    def _report(
        self,
        device: Device,
        dtype: str,
        tasks: list[tune.TaskResult],
        fastest: list[tune.TaskResult],
        measurement: Measurement,
        obstacle: str | None,
        undecided: int,
        started: float,
    ) -> CompileReport:
        return CompileReport(
            target=self.target,
            dtype=dtype,
            tasks=tasks,
            fastest=fastest,
            where=device.where,
            ran_elsewhere=self.selected.target != self.target,
            measurement=measurement,
            measured=self.progress.count,
            failed=self.progress.failures,
            seconds=time.monotonic() - started,
            virtual_machine=obstacle,
            undecided=undecided,
        )

    def _source(self) -> Source:
        """Trace, quantize if that was asked for, and import."""
        self.progress.step(f"importing {self.network.name}")
        original = models.trace(self.network)
        self._require_data(original)
        asked = self.precision
        if asked.dtype == "auto":
            self.progress.step("choosing the precision of each layer")
            return chosen_source(original, self.target, asked, self._done)
        if asked.dtype != "int8":
            return source_of(original, asked.dtype)
        self.progress.step("taking the ranges of activations")
        return quantized_source(
            original, self.target, asked.calibrate, partial(self._done, "samples")
        )

    def _done(self, what: str, count: int) -> None:
        self.progress.advanced(what, count, None)

    def _build(
        self,
        program: Program,
        lowered: passes.RelaxNetwork,
        native: bool,
        target: Target,
        library: Path,
        tasks: Sequence[tune.TaskResult],
    ) -> _Built:
        winners = tune.winners(tasks)
        scheduled = replace(lowered, mod=schedule_kernels(lowered.mod, winners, target))
        weights = weight_table(lowered, scheduled.mod)
        opencl = plan = None
        if native:
            plan = native_library.build_native_library(
                program,
                scheduled,
                None,
                target,
                library,
                archive=self._archive(library),
                at_load=self.pack_at_load,
                modules=modules_of(weights),
            )
        else:
            opencl = build_library(scheduled, None, target, library)
        require_declared(library, target.name, machine.needed_features(target))
        if self.pack_at_load:
            weights = tuple(each.before_transform() for each in weights)
        return _Built(opencl, plan, weights)

    def _obstacle(self, lowered: passes.RelaxNetwork) -> str | None:
        """Why TVM's virtual machine is to run the library, in words; None if it is not."""
        if self.runtime == "virtual-machine":
            return "as asked for"
        found = native_library.obstacle(lowered, self.target)
        if found is None:
            return None
        for option, asked in (
            ("--runtime", self.runtime == "native"),
            ("--format", self.form != "so"),
            ("--pack-weights", self.pack_at_load),
        ):
            if asked:
                raise ModelError(
                    f"{self.network.name} needs TVM's virtual machine: {found}; leave {option} out"
                )
        return found

    def _archive(self, library: Path) -> StaticArchive | None:
        """The archive beside a library, if one is to be made."""
        if self.form == "so":
            return None
        return StaticArchive(library.with_suffix(".a"), self.network.name, self.form)

    def _prove(self, source: Source, example: Case | None) -> int:
        self.progress.step("comparing its operators with PyTorch's")
        known = {} if example is None else {"the example inputs": example.inputs}
        return prove(
            source.program, source.core, {**known, **tensors.varied_inputs(self.network.inputs)}
        )

    def _require_data(self, program: Program) -> None:
        """Find out before the search that the data can be read."""
        if self.data is not None:
            next(models.read_samples(self.data, self.network.inputs, program.inputs))

    def _on_data(
        self, device: Device, library: Path, network: Source, tolerance: float
    ) -> DataValidation | None:
        if self.data is None:
            return None
        source = models.source_of(self.data)
        self.progress.step(f"comparing with PyTorch on {source}")
        samples = models.read_samples(self.data, self.network.inputs, network.program.inputs)
        return validate_on_data(
            device,
            library,
            network.program,
            samples,
            network.dtype,
            source,
            partial(self._done, "samples"),
            tolerance=tolerance,
            original=network.original,
        )

    def _require_suitable(self, device: Device) -> None:
        """Find out before the search whether the library can run there."""
        target, needed = self.target, machine.needed_features(self.target)
        machine.require_suitable(device, target.name, target.architecture.name, needed)
        _require_float16(device, self.precision.dtype)

    def _tune(
        self, lowered: passes.RelaxNetwork, device: Device
    ) -> tuple[tune.RecordStore, list[tune.TaskResult]]:
        """Return the records, and the best candidate of each kernel."""
        records = tune.RecordStore.of(self.logs, self.target, device)
        tasks, target = tune.extract(lowered.mod), self.selected.target
        tuning = replace(self.tuning, plain_weights=self.size is not None)
        return records, tune.tune(tasks, target, device, records, tuning, self.progress)


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


def _cost(measurement: Measurement, where: str, day: date) -> MeasuredCost:
    """What the bundle says of what was measured."""
    return MeasuredCost(measurement.unit, measurement.values, where, day.isoformat())


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
