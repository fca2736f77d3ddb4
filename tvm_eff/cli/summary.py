"""What the terminal shows when a library is done."""

from __future__ import annotations

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from tvm_eff.api import FlowResult
from tvm_eff.device import Unit
from tvm_eff.schedules import Candidate
from tvm_eff.tune import TaskResult

console = Console()


def print_summary(result: FlowResult, measured: int, failed: int) -> None:
    """Print the kernels, the totals, and how to go on."""
    unit = result.measurement.unit
    console.print(_kernels(result, unit))
    lines = [
        f"kernels      {len(result.tasks)} distinct; this run measured {measured} candidates, "
        f"{failed} of them failed",
        f"before       {_show(result.kernels_before, unit)} in all kernels unscheduled",
        f"after        {_show(result.kernels_after, unit)} in all kernels; "
        f"{_show(result.measurement.median, unit)} for an inference from end to end",
        f"measured     on {result.where}{_caveat(result)}",
        *_other_machines(result),
        f"error        at most {result.largest_error:.2g} of the spread of PyTorch's output",
        f"library      {result.bundle / 'model.so'} ({result.library_bytes / 1e6:.1f} MB)",
        f"took         {result.seconds:.0f} s",
        "",
        *_next_steps(result),
    ]
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


def _kernels(result: FlowResult, unit: Unit) -> Table:
    scale = "ms" if unit == "seconds" else "M instructions"
    table = Table(
        title=f"{result.model} for {result.target.name}: all calls of each kernel, {scale}",
        box=SIMPLE,
    )
    table.add_column("kernel", no_wrap=True, overflow="ellipsis")
    for heading in ("calls", "before", "after", "ratio", "tried", "failed"):
        table.add_column(heading, justify="right", no_wrap=True, min_width=len(heading))
    table.add_column("schedule", no_wrap=True, overflow="ellipsis")
    for each in sorted(result.tasks, key=_cost, reverse=True):
        table.add_row(
            each.task.label,
            str(each.task.calls),
            _number(each.before.value * each.task.calls, unit),
            _number(_cost(each), unit),
            f"{each.before.value / each.best.value:.1f}",
            str(each.measured),
            str(each.failed),
            _brief(each.best.candidate),
        )
    return table


def _brief(candidate: Candidate) -> str:
    return " ".join([candidate.rule, *(str(value) for _, value in candidate.decisions)])


def _cost(each: TaskResult) -> float:
    return each.best.value * each.task.calls


def _number(value: float, unit: Unit) -> str:
    if value == float("inf"):
        return "failed"
    return f"{value * 1e3:.3f}" if unit == "seconds" else f"{value / 1e6:.2f}"


def _show(value: float, unit: Unit) -> str:
    return f"{_number(value, unit)} {'ms' if unit == 'seconds' else 'million instructions'}"


def _caveat(result: FlowResult) -> str:
    if result.measurement.unit == "instructions":
        return ": executed instructions, not a latency"
    if result.ran_elsewhere:
        return (
            f": its times, not those of {result.target.name}, for which the same kernels are built"
        )
    return ""


def _other_machines(result: FlowResult) -> list[str]:
    """Say whose values chose schedules, and stand in the table, where they are not this run's."""
    others = {each.best.device.get("where", "?") for each in result.tasks} - {result.where}
    if result.measurement.unit != "seconds" or not others:
        return []
    words = "; ".join(sorted(others))
    return [
        f"kernels      values come from {words.replace('this machine', 'another machine')}, "
        "which chose schedules; --logs FOLDER measures here"
    ]


def _dtype(result: FlowResult) -> str:
    return "" if result.dtype == "float32" else f" --dtype {result.dtype}"


def _next_steps(result: FlowResult) -> list[str]:
    if result.target.is_host:
        return [f'in Python    tvm_eff.load("{result.bundle}")(x)']
    port, gpu = result.target.rpc.port, result.target.gpu is not None
    plugin = " --load-library libtvm_runtime_opencl.so" if gpu else ""
    return [
        "on a board   start TVM's RPC server there, on a network you trust"
        f"{' (docs/opencl.md has more)' if gpu else ''}:",
        f"                 python -m tvm.exec.rpc_server --host 0.0.0.0 --port {port}{plugin}",
        "             time this library on it, or tune on it in seconds:",
        f"                 python scripts/bench.py {result.bundle} --rpc BOARD:{port}",
        f"                 python scripts/tune.py --target {result.target.name} "
        f"--model {result.model}{_dtype(result)} --rpc BOARD:{port}",
    ]
