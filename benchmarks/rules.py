"""What each schedule rule makes of single layers on emulated boards, in each dtype.

    python benchmarks/rules.py rasp4 rasp5

Each layer is tuned for each board in every dtype that its processor computes in, without records:
executed instructions a multiply-add of the direct computation, of the best candidate of each rule.
They are no latency. A candidate whose result is too far off is refused, as in any session. A table
is printed, and --json writes what it is made of.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import results_file
from loops.kernels import tasks_of
from loops.layers import Layer, dtypes_of
from results_file import Result
from torch import nn

from tvm_eff import models, targets
from tvm_eff.cli.arguments import positive
from tvm_eff.cli.run import run
from tvm_eff.device import Device, EmulatedDevice
from tvm_eff.errors import UsageError
from tvm_eff.schedules import analysis
from tvm_eff.targets import Target
from tvm_eff.tensors import TensorSpec
from tvm_eff.tune import Record, RecordStore, Task, TuneOptions, tune

TRIALS = 9


@dataclass(frozen=True)
class Count:
    """What a rule makes of a layer.

    Attributes
    ----------
    layer, target, cpu, dtype, rule
        Which layer, board, processor, dtype and rule.
    instructions
        Executed for each multiply-add; None if every candidate failed.
    candidate
        The one that takes fewest.
    error
        How far off it is, as a fraction of the reference's spread.
    tried, refused
        How many candidates were measured, and how many of these were too far off.
    """

    layer: str
    target: str
    cpu: str
    dtype: str
    rule: str
    instructions: float | None
    candidate: str | None
    error: float | None
    tried: int
    refused: int


class _Collected:
    """Keeps the records of a session."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def started(self, total: int, to_measure: int, rechecked: int) -> None:
        """Nothing is to be told."""

    def measured(self, task: Task, record: Record, best: Record | None) -> None:
        """Keep the record."""
        self.records.append(record)


def layers() -> tuple[Layer, ...]:
    """Return layers of MobileNet and SqueezeNet, one of each kind and size."""
    return (
        _pointwise(512, 512, 14),
        _pointwise(128, 128, 56),
        *(_square(*sizes) for sizes in ((64, 256, 13), (48, 192, 13), (32, 128, 27), (16, 64, 55))),
        Layer(
            "depthwise 3x3, 512, 14x14",
            nn.Conv2d(512, 512, 3, padding=1, groups=512),
            (1, 512, 14, 14),
        ),
        Layer(
            "3x3 of an image, stride 2, to 32, 56x56",
            nn.Conv2d(3, 32, 3, stride=2, padding=1),
            (1, 3, 112, 112),
        ),
    )


def _pointwise(depth: int, channels: int, side: int) -> Layer:
    label = f"1x1, {depth} to {channels}, {side}x{side}"
    return Layer(label, nn.Conv2d(depth, channels, 1), (1, depth, side, side))


def _square(depth: int, channels: int, side: int) -> Layer:
    label = f"3x3, {depth} to {channels}, {side}x{side}"
    return Layer(label, nn.Conv2d(depth, channels, 3, padding=1), (1, depth, side, side))


def counts(found: Sequence[Layer], boards: Sequence[Target], trials: int) -> Iterator[Count]:
    """Measure every layer on every board in every dtype."""
    for target in boards:
        assert target.emulator is not None, "it was asked for"
        with EmulatedDevice(target.emulator.arch, target.emulator.cpu) as device:
            for layer in found:
                for dtype in dtypes_of(target):
                    yield from _of_layer(layer, target, device, dtype, trials)


def _of_layer(
    layer: Layer, target: Target, device: Device, dtype: str, trials: int
) -> Iterator[Count]:
    task = _task(layer, target, dtype)
    collected = _Collected()
    with tempfile.TemporaryDirectory() as logs:
        records = RecordStore.of(Path(logs), target, device)
        tune([task], target, device, records, TuneOptions(trials=trials), collected)
    products = analysis.multiply_adds(task.func)
    for rule in dict.fromkeys(each.candidate.rule for each in collected.records):
        tried = {each.candidate: each for each in collected.records if each.candidate.rule == rule}
        right = [each for each in tried.values() if each.values]
        best = min(right, key=lambda each: each.value, default=None)
        yield Count(
            layer=layer.label,
            target=target.name,
            cpu=target.tvm["mcpu"],
            dtype=dtype,
            rule=rule,
            instructions=None if best is None else round(best.value / products, 4),
            candidate=None if best is None else str(best.candidate),
            error=None if best is None else best.error,
            tried=len(tried),
            refused=sum("wrong result" in (each.failure or "") for each in tried.values()),
        )


def _task(layer: Layer, target: Target, dtype: str) -> Task:
    """Return the kernel of a layer, whose result stays in the dtype that it computes in.

    Outputs of a network would be float32.
    """
    network = nn.Sequential(layer.module, nn.ReLU(), nn.MaxPool2d(1, 2)).eval()
    spec = TensorSpec(layer.shape, "float32")
    program = models.trace(models.of_module(network, (spec,), name=layer.label))
    found = tasks_of(program, target, dtype)
    return max(found, key=lambda each: analysis.multiply_adds(each.func))


def markdown(result: Result) -> str:
    """Return a table for each board."""
    rows: list[dict[str, Any]] = result.data["layers"]
    lines = ["# Rules", "", result.provenance, ""]
    lines.append(
        "Executed instructions a multiply-add of the direct computation, under qemu, which are no "
        "latency: of each rule the best of the candidates tried; in brackets how many of them were "
        "too far off, if any."
    )
    for cpu in dict.fromkeys(row["cpu"] for row in rows):
        of_cpu = [row for row in rows if row["cpu"] == cpu]
        columns = list(dict.fromkeys((row["dtype"], row["rule"]) for row in of_cpu))
        cells = {(row["layer"], row["dtype"], row["rule"]): _cell(row) for row in of_cpu}
        lines += ["", f"## {cpu}", ""]
        lines.append(
            "| layer | " + " | ".join(f"{dtype}, {rule}" for dtype, rule in columns) + " |"
        )
        lines.append("|---" * (len(columns) + 1) + "|")
        for layer in dict.fromkeys(row["layer"] for row in of_cpu):
            found = [cells.get((layer, *column), "") for column in columns]
            lines.append("| " + " | ".join([layer, *found]) + " |")
    return "\n".join(lines) + "\n"


def _cell(row: dict[str, Any]) -> str:
    shown = "none" if row["instructions"] is None else f"{row['instructions']:.3f}"
    return shown + (f" ({row['refused']} of {row['tried']})" if row["refused"] else "")


def main(argv: list[str] | None = None) -> int:
    """Measure on the boards that the command line names."""
    return run(_main, argv)


def _main(argv: list[str] | None) -> None:
    arguments = _parser().parse_args(argv)
    boards = [_emulated(name) for name in arguments.targets]
    run_now = results_file.begin(__file__, argv)
    rows = []
    for each in counts(layers(), boards, arguments.trials):
        print(f"{each.layer}, {each.cpu}, {each.dtype}, {each.rule}", file=sys.stderr, flush=True)
        rows.append(asdict(each))
    result = run_now.with_data({"trials": arguments.trials, "layers": rows})
    print(markdown(result))
    if arguments.json is not None:
        result.write(arguments.json)


def _emulated(name: str) -> Target:
    target = targets.load(name)
    if target.emulator is None:
        raise UsageError(f"target {name} has no emulator, and executed instructions are counted")
    return target


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("targets", nargs="+", metavar="TARGET", help="emulated boards")
    parser.add_argument(
        "--trials", type=positive, default=TRIALS, help="candidates of each (default: %(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
