"""What the terminal shows when a library is done."""

from __future__ import annotations

import math
import os
import shlex
import shutil
import sys
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from tvm_eff import paths
from tvm_eff.cli.precision_summary import precision_table, quantization_lines
from tvm_eff.deploy.bundle import RUNNER, Bundle
from tvm_eff.deploy.inspection.growth import in_words
from tvm_eff.deploy.report import CompileReport
from tvm_eff.device import Unit
from tvm_eff.schedules import Candidate
from tvm_eff.tensors import MIXED
from tvm_eff.tune import TaskResult

_LOG_WIDTH = 160
_SCHEDULES_FROM = 100
"""Columns a terminal must have to show schedules too; figures are never cut."""


def print_summary(bundle: Bundle, report: CompileReport, command: str) -> None:
    """Print the kernels, the totals, and how to go on.

    Parameters
    ----------
    bundle
        What was written.
    report
        What was found on the way.
    command
        The command line that was typed, to be typed again for a board.
    """
    unit = report.measurement.unit
    console = Console()
    if not console.is_terminal:
        console.width = _LOG_WIDTH  # a file has room
    console.print(_kernels(bundle, report, unit, console.width >= _SCHEDULES_FROM))
    lines = [
        f"kernels      {len(report.tasks)} distinct; this run measured {report.measured} "
        f"candidates, {report.failed} of them failed",
        f"before       {_show(report.kernels_before, unit)} in all kernels unscheduled",
        f"after        {_show(report.kernels_after, unit)} in all kernels; "
        f"{_show(report.measurement.median, unit)} for an inference from end to end",
        f"measured     on {report.where}{_caveat(report)}",
        *_priors(report),
        f"error        at most {bundle.error:.2g} of the spread of {_reference(bundle)}"
        f"{_own(bundle)}",
        *_limit(bundle),
        *_undecided(report),
        *_data(bundle),
        *quantization_lines(bundle.manifest.validation.quantization),
        f"library      {bundle.library} ({bundle.library.stat().st_size / 1e6:.1f} MB), "
        f"{_needs(report)}",
        f"weights      {in_words(bundle.manifest.weights)}",
        *_bound(report, unit),
        f"took         {report.seconds:.0f} s",
        "",
        *_next_steps(bundle, report, command),
    ]
    table = precision_table(bundle.manifest.validation.quantization)
    if table is not None:
        console.print(table)
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


def _kernels(bundle: Bundle, report: CompileReport, unit: Unit, schedules: bool) -> Table:
    scale = "ms" if unit == "seconds" else "M instructions"
    table = Table(
        title=f"{bundle.manifest.model} for {report.target.name}: all calls of each kernel, "
        f"{scale}",
        box=SIMPLE,
    )
    table.add_column("kernel", no_wrap=True, overflow="ellipsis")
    for heading in ("calls", "before", "after", "ratio", "tried", "failed"):
        table.add_column(heading, justify="right", no_wrap=True, min_width=len(heading))
    if schedules:
        table.add_column("schedule", no_wrap=True, overflow="ellipsis")
    for each in sorted(report.tasks, key=_rank, reverse=True):
        table.add_row(
            each.task.label,
            str(each.task.calls),
            _number(each.value_before * each.task.calls, unit),
            _number(each.value * each.task.calls, unit),
            _ratio(each),
            str(each.measured),
            str(each.failed),
            *([_brief(each.candidate)] if schedules else []),
        )
    return table


def _brief(candidate: Candidate) -> str:
    return " ".join([candidate.rule, *(str(value) for _, value in candidate.decisions)])


def _rank(each: TaskResult) -> float:
    cost = each.value * each.task.calls
    return 0.0 if math.isnan(cost) else cost


def _ratio(each: TaskResult) -> str:
    ratio = each.value_before / each.value
    return "-" if math.isnan(ratio) else f"{ratio:.1f}"


def _number(value: float, unit: Unit) -> str:
    if math.isnan(value):
        return "-"
    if value == math.inf:
        return "failed"
    return f"{value * 1e3:.3f}" if unit == "seconds" else f"{value / 1e6:.2f}"


def _show(value: float, unit: Unit) -> str:
    if math.isnan(value):
        return "not measured"
    return f"{_number(value, unit)} {'ms' if unit == 'seconds' else 'million instructions'}"


def _bound(report: CompileReport, unit: Unit) -> list[str]:
    """Say what a bound on the library costs."""
    pairs = zip(report.tasks, report.fastest, strict=True)
    smaller = sum(one.candidate != other.candidate for one, other in pairs)
    if not smaller:
        return []
    return [
        f"size         to be small enough, {smaller} kernels are not the fastest ones, with which "
        f"all would take {_show(report.kernels_unbounded, unit)}"
    ]


def _caveat(report: CompileReport) -> str:
    if report.measurement.unit == "instructions":
        return ": executed instructions, not a latency"
    if report.ran_elsewhere:
        return (
            f": its times, not those of {report.target.name}, for which the same kernels are built"
        )
    return ""


def _priors(report: CompileReport) -> list[str]:
    """Say whose values chose schedules, and stand in the table, where they are not of here."""
    found = [each.best for each in report.priors if each.best is not None]
    if not found:
        return []
    words = "; ".join(sorted({each.machine.words for each in found}))
    return [
        f"priors       {len(found)} kernels have values of {words}, or of other code, which "
        "chose their schedules; they were not measured here"
    ]


def _reference(bundle: Bundle) -> str:
    quantized = bundle.manifest.validation.dtype in ("int8", MIXED)
    return "the quantized network's output" if quantized else "PyTorch's output"


def _own(bundle: Bundle) -> str:
    found = bundle.manifest.validation.reference_errors
    return f"; PyTorch itself is off by {max(found):.2g}" if found else ""


def _limit(bundle: Bundle) -> list[str]:
    found = bundle.manifest.validation.half_precision_limit
    if found is None:
        return []
    return [
        f"float16      not for inputs from 0 to 255: {found}; scale them before (--preprocess), or "
        "leave --dtype out"
    ]


def _undecided(report: CompileReport) -> list[str]:
    if not report.undecided:
        return []
    inputs = "input is" if report.undecided == 1 else "inputs are"
    return [
        f"undecided    {report.undecided} {inputs} left out, on which rounding alone decides what "
        "PyTorch's own output is"
    ]


def _data(bundle: Bundle) -> list[str]:
    found = bundle.manifest.validation.data
    if found is None:
        return []
    words = [f"on {found.source}, {found.samples} samples: error at most {found.largest_error:.2g}"]
    if found.same_class is not None:
        words.append(f"PyTorch's class for {found.same_class:.1%}")
    if found.top1 is not None:
        words.append(f"the right class for {found.top1:.1%}, PyTorch {found.pytorch_top1:.1%}")
    return [f"your data    {'; '.join(words)}"]


def _needs(report: CompileReport) -> str:
    if report.virtual_machine is None:
        return "which needs nothing but libc"
    return f"run by TVM's virtual machine: {report.virtual_machine}"


def _next_steps(bundle: Bundle, report: CompileReport, command: str) -> list[str]:
    if report.target.is_host:
        names = [each.name for each in bundle.manifest.inputs]
        given = ", ".join(names) if len(names) > 1 else "x"
        return [f'in Python    tvm_eff.load("{bundle.folder}")({given})']
    target, port = report.target, report.target.rpc.port
    gpu = " (docs/opencl.md says what a GPU needs)" if target.gpu is not None else ""
    bench = _verb(command, "bench")
    return [
        f"on a board   copy a server there that needs nothing else, and start it{gpu}:",
        f"                 {_verb(command, 'board-server')} --arch {target.architecture.name}",
        f"                 ./tvm_eff_server --port {port}",
        f"                 ssh -N -L {port}:127.0.0.1:{port} USER@BOARD     (here, meanwhile)",
        "             time this library on it, or tune on it in seconds:",
        f"                 {bench} {shlex.quote(str(bundle.folder))} --rpc 127.0.0.1:{port}",
        f"                 {command} --rpc 127.0.0.1:{port}",
        *_alone(bundle),
    ]


def _alone(bundle: Bundle) -> list[str]:
    if not (bundle.folder / RUNNER).exists():
        return []
    return [
        "             or copy the bundle there, check and time it with nothing else:",
        f"                 {bundle.folder.name}/{RUNNER} {bundle.folder.name}",
    ]


def _verb(command: str, verb: str) -> str:
    """Return how another verb is called by somebody who typed `command`."""
    script = Path(f"scripts/{verb}.py")
    if command.startswith("python ") and (paths.data_folder("targets").parent / script).is_file():
        return f"python {script}"
    # An environment that is not active has it where this Python is.
    own = os.path.relpath(Path(sys.prefix, "bin", "tvm-eff"))
    return f"{'tvm-eff' if shutil.which('tvm-eff') else own} {verb}"
