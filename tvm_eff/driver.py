"""One compilation, from checked options to a bundle: every step in order."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np

from tvm_eff import models, passes, tensors, tune
from tvm_eff.deploy import bundle, machine, native_library
from tvm_eff.deploy.accuracy import Case
from tvm_eff.deploy.bundle import Bundle, Golden, MeasuredCost
from tvm_eff.deploy.library import Winners, build_library, kernel_schedules
from tvm_eff.deploy.manifest import DataValidation, Runtime
from tvm_eff.deploy.own_data import validate_on_data
from tvm_eff.deploy.proof import prove
from tvm_eff.deploy.report import CompileReport
from tvm_eff.deploy.source import Source, quantized_source, source_of
from tvm_eff.deploy.validate import validation, validation_cases
from tvm_eff.device import Device, Measurement, MeasureOptions, SelectedDevice
from tvm_eff.device.selection import FLOAT16_EXTENSION
from tvm_eff.errors import BundleError, DeviceError
from tvm_eff.models import Network, Program
from tvm_eff.progress import CountingProgress
from tvm_eff.scratch import scratch_folder
from tvm_eff.targets import OpenCLRequirements, Target


@dataclass(frozen=True)
class Compilation:
    """One compilation, all of whose options are checked.

    Attributes
    ----------
    network, target, dtype
        What is compiled, what for, and what it computes in.
    selected
        Where candidates are measured and the library is validated.
    logs, folder
        The folder of records, and that of the bundle.
    tuning
        How much to try.
    proof
        Whether each operator as imported is compared with PyTorch's.
    runtime
        What runs the library.
    data
        Data of the user's own to validate it on; None for none.
    calibrate
        Data that int8 takes the ranges of activations from; None for random inputs.
    progress
        What events are told to.
    """

    network: Network
    target: Target
    dtype: str
    selected: SelectedDevice
    logs: Path
    folder: Path
    tuning: tune.TuneOptions
    proof: bool
    runtime: Runtime
    data: models.Samples | None
    calibrate: models.Samples | None
    progress: CountingProgress

    def run(self, examples: Sequence[np.ndarray] | None, random_inputs: int) -> Bundle:
        """Compile, and write the bundle."""
        started, source = time.monotonic(), self._source()
        program = source.program
        _require_writable(self.folder.parent)
        bundle.require_replaceable(self.folder)
        cases = validation_cases(program, examples, random_inputs)
        tolerance = source.tolerance(cases)
        given = examples is not None or self.network.state
        proved = self._prove(source, cases[0] if given else None) if self.proof else None
        lowered = passes.lower(source.imported, self.target, self.dtype)
        if self.runtime == "native":
            native_library.require_straight(self.network.name, lowered, self.target)

        if self.tuning.measure:
            tune.preload()
        self.progress.step(self.selected.opening)
        with self.selected.device as device, scratch_folder() as scratch:
            self._require_suitable(device)
            tasks = self._tune(lowered, device)
            library = scratch / "model.so"
            winners = tune.winners(tasks)
            self.progress.step("compiling the library")
            opencl = self._build(program, lowered, winners, self.selected.target, library)
            self.progress.step(f"validating on {device.where}")
            validated, measurement = validation(
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
                self._build(program, lowered, winners, self.target, library)
            report = self._report(device, source.dtype, tasks, measurement, started)
            return bundle.write(
                self.folder,
                library,
                model=self.network.name,
                target=self.target,
                golden=_golden(program, cases[0]),
                validation=validated,
                opencl=opencl,
                kernels=kernel_schedules(lowered, winners),
                measurement=MeasuredCost(
                    measurement.unit, measurement.values, device.where, date.today().isoformat()
                ),
                report=report,
                runtime=self.runtime,
            )

    def _report(
        self,
        device: Device,
        dtype: str,
        tasks: list[tune.TaskResult],
        measurement: Measurement,
        started: float,
    ) -> CompileReport:
        return CompileReport(
            target=self.target,
            dtype=dtype,
            tasks=tasks,
            where=device.where,
            ran_elsewhere=self.selected.target != self.target,
            measurement=measurement,
            measured=self.progress.count,
            failed=self.progress.failures,
            seconds=time.monotonic() - started,
        )

    def _source(self) -> Source:
        """Trace, quantize if that was asked for, and import."""
        self.progress.step(f"importing {self.network.name}")
        original = models.trace(self.network)
        self._require_data(original)
        if self.dtype != "int8":
            return source_of(original, self.dtype)
        self.progress.step("taking the ranges of activations")

        def done(count: int) -> None:
            self.progress.advanced("samples", count, None)

        return quantized_source(original, self.target, self.calibrate, done)

    def _build(
        self,
        program: Program,
        lowered: passes.RelaxNetwork,
        winners: Winners,
        target: Target,
        library: Path,
    ) -> OpenCLRequirements | None:
        if self.runtime == "native":
            native_library.build_native_library(program, lowered, winners, target, library)
            return None
        return build_library(lowered, winners, target, library)

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

        def done(count: int) -> None:
            self.progress.advanced("samples", count, None)

        return validate_on_data(
            device,
            library,
            network.program,
            samples,
            network.dtype,
            source,
            done,
            tolerance=tolerance,
            original=network.original,
        )

    def _require_suitable(self, device: Device) -> None:
        """Find out before the search whether the library can run there."""
        target, needed = self.target, machine.needed_features(self.target)
        machine.require_suitable(device, target.name, target.architecture.name, needed)
        _require_float16(device, self.dtype)

    def _tune(self, lowered: passes.RelaxNetwork, device: Device) -> list[tune.TaskResult]:
        records = tune.RecordStore.of(self.logs, self.target, device)
        tasks = tune.extract(lowered.mod)
        return tune.tune(tasks, self.selected.target, device, records, self.tuning, self.progress)


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
