"""Tune, check and measure both layers of every pair.

All kernels are tuned in one session, so that a kernel two layers share is tuned once and
an interrupted study goes on where it stopped. Then the two libraries of a pair take turns
on the device, round after round: what disturbs the machine disturbs both, and each round
has a ratio of its own.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from importlib.metadata import version
from pathlib import Path

from study import grid
from study.grid import LayerShape, Pair
from study.report import require_writable
from study.result import Comparison, Kernel, LayerCost, Study
from tvm_eff import __version__, api, frontend, models, passes, targets, tensors, tune
from tvm_eff.deploy.library import build_library
from tvm_eff.deploy.validate import case_of, validate
from tvm_eff.device import Device, MeasureOptions, select
from tvm_eff.errors import ValidationError
from tvm_eff.models import Formula, Network, Program
from tvm_eff.passes import RelaxNetwork
from tvm_eff.progress import Progress
from tvm_eff.schedules import Candidate
from tvm_eff.scratch import scratch_folder
from tvm_eff.targets import Target
from tvm_eff.tune import Record, RecordStore, Task

ROUNDS = 9
_INPUTS = 2
_TURN = MeasureOptions(repeat=3, min_repeat_ms=20.0, budget_s=0.5)


@dataclass(frozen=True)
class StudyOptions:
    """What to compare, and where.

    Attributes
    ----------
    target
        A target's name or file.
    families
        Families of networks.
    shapes
        Shapes of layers.
    rpc, key
        A real board's RPC server, as for :class:`tvm_eff.api.FlowOptions`.
    logs
        The folder of records.
    output
        The folder the results will be written to.
    rounds
        How often both libraries of a pair are timed. Instructions are counted once, as
        they are always the same.
    tune
        How much to try of each kernel.
    """

    target: str | Path
    families: Sequence[str] = grid.FAMILIES
    shapes: Sequence[LayerShape] = grid.DEFAULT_SHAPES
    rpc: str | None = None
    key: str = ""
    logs: Path | None = None
    output: Path = Path("dist")
    rounds: int = ROUNDS
    tune: tune.TuneOptions = field(default_factory=tune.TuneOptions)


@dataclass(frozen=True)
class _Layer:
    """A layer that is ready to be tuned."""

    program: Program
    lowered: RelaxNetwork
    tasks: list[Task]
    parameters: int
    macs: int


@dataclass(frozen=True)
class _Prepared:
    """A pair that is ready to be tuned."""

    pair: Pair
    formula: Formula
    standard: _Layer
    factorized: _Layer

    @property
    def tasks(self) -> list[Task]:
        return self.standard.tasks + self.factorized.tasks


@dataclass(frozen=True)
class _Bench:
    """What all pairs are measured with."""

    target: Target
    device: Device
    records: RecordStore
    winners: dict[str, Candidate]
    folder: Path
    rounds: int


def run(options: StudyOptions, progress: Progress) -> Study:
    """Run a study; its results are returned, and not written.

    Raises
    ------
    Error
        Anything a user can cause or meet: see :mod:`tvm_eff.errors`. What was tuned until
        then is on record.
    """
    load = os.getloadavg()[0]
    pairs = grid.pairs(options.families, options.shapes)
    target = targets.load(options.target)
    # Only LLVM knows whether the processor exists; ask before anything is written or built.
    target.tvm_target()
    measured = select(target, options.rpc, options.key, progress)
    require_writable(options.output)
    with measured.device as device, scratch_folder() as scratch:
        logs = options.logs or api.default_logs(target)
        records = RecordStore.of(logs, target, device)
        progress.step(f"importing {len(pairs)} factorized layers, and as many standard ones")
        prepared = [_prepare(pair, target) for pair in pairs]
        where = device.where
        progress.step(f"tuning on {where}")
        tasks = _distinct([task for each in prepared for task in each.tasks])
        tuned = tune.tune(tasks, measured.target, device, records, options.tune, progress)
        rounds = options.rounds if device.unit == "seconds" else 1
        bench = _Bench(measured.target, device, records, tune.winners(tuned), Path(scratch), rounds)
        found = []
        for number, each in enumerate(prepared, 1):
            progress.step(f"measuring pair {number} of {len(pairs)}: {each.pair}")
            found.append(_compare(each, bench))
    return Study(
        target=target.name,
        unit=device.unit,
        where=where,
        date=date.today().isoformat(),
        versions={
            "tvm_eff": __version__,
            "tvm": version("apache-tvm"),
            "torch": version("torch"),
            "python": platform.python_version(),
        },
        kernels=len(tuned),
        candidates=sum(each.measured for each in tuned),
        load=load if device.disturbed_by_builds else None,
        threads=target.hardware.cores,
        tolerance=tensors.TOLERANCE,
        comparisons=tuple(found),
    )


def _prepare(pair: Pair, target: Target) -> _Prepared:
    factorized, standard = pair.layers()
    return _Prepared(
        pair,
        factorized.formula(),
        _lower(grid.network(standard, pair.shape, f"the standard layer of {pair}"), target),
        _lower(grid.network(factorized, pair.shape, f"the layer {pair}"), target),
    )


def _lower(network: Network, target: Target) -> _Layer:
    program = models.trace(network)
    lowered = passes.lower(frontend.import_program(program), target)
    parameters, macs = models.count(network)
    return _Layer(program, lowered, tune.extract(lowered.mod), parameters, macs)


def _distinct(tasks: Sequence[Task]) -> list[Task]:
    """Leave out equal kernels, and give those of different layers different names."""
    found: dict[str, Task] = {}
    for task in tasks:
        known = found.get(task.workload)
        found[task.workload] = replace(known, calls=known.calls + task.calls) if known else task
    return [
        # TVM numbers its kernels in the same way.
        replace(task, name=f"{task.name.rstrip('0123456789')}{number}")
        for number, task in enumerate(found.values())
    ]


def _compare(prepared: _Prepared, bench: _Bench) -> Comparison:
    layers = (prepared.standard, prepared.factorized)
    libraries = [bench.folder / "standard.so", bench.folder / "factorized.so"]
    errors = [_build(layer, bench, path) for layer, path in zip(layers, libraries, strict=True)]
    turns = _turns(prepared.standard.program.network, libraries, bench)
    standard, factorized = (
        LayerCost(layer.macs, layer.parameters, tuple(values), error, _kernels(layer, bench))
        for layer, values, error in zip(layers, turns, errors, strict=True)
    )
    pair = prepared.pair
    return Comparison(
        pair.kind.family, pair.kind.name, pair.shape, prepared.formula, standard, factorized
    )


def _build(layer: _Layer, bench: _Bench, path: Path) -> float:
    """Write the library of a layer, compare it with PyTorch, and return its error."""
    build_library(layer.lowered, bench.winners, bench.target, path)
    specs = layer.program.network.inputs
    inputs = [tensors.random_inputs(specs, seed) for seed in range(_INPUTS)]
    cases = [case_of(layer.program, each) for each in inputs]
    try:
        largest, *_ = validate(bench.device, path, cases, tensors.TOLERANCE)
        return largest
    except ValidationError as error:
        # The library is gone with the error: say of which layer it was.
        raise ValidationError(
            f"{layer.program.network.name} is not compiled rightly, so nothing was timed: {error}; "
            "leave its family out with --families, or tune it afresh with --logs FOLDER"
        ) from error


def _turns(network: Network, libraries: Sequence[Path], bench: _Bench) -> list[list[float]]:
    """Measure all libraries once a round, in turns; return what each cost in every round."""
    inputs = tensors.random_inputs(network.inputs)
    values: list[list[float]] = [[] for _ in libraries]
    for _ in range(bench.rounds):
        for library, found in zip(libraries, values, strict=True):
            _, measurement = bench.device.run(library, inputs, measure=_TURN)
            assert measurement is not None, "a measurement was asked for"
            found.append(measurement.median)
    return values


def _kernels(layer: _Layer, bench: _Bench) -> tuple[Kernel, ...]:
    def best(task: Task) -> Record:
        record = bench.records.best(task.workload)
        assert record is not None, "the session measured it"
        return record

    return tuple(Kernel(task.label, task.calls, best(task).value) for task in layer.tasks)
