"""What holds a kernel: its bound, the sentences about it, and the command line."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import layers  # noqa: E402
from engines.arm_mix import MixDevice  # noqa: E402
from roofline import board, bounds, prose, report  # noqa: E402
from roofline.bandwidth import Bandwidth  # noqa: E402
from roofline.bounds import Limits, bound_of  # noqa: E402
from roofline.network import Network  # noqa: E402

from tvm_eff import frontend, models, passes, targets, tune  # noqa: E402

LIMITS = Limits(flops=100e9, near=200e9, far=20e9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "squeezenet9"], "squeezenet9"),
        (["--target", "rasp3-armv7", "--model", "squeezenet1_1"], "64-bit Arm boards only"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_the_reason(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert layers.main([*arguments, "--output", str(output)]) == 2
    assert message in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize("target", ["host", "rasp4"])
def test_a_model_without_records_is_told_how_to_get_them(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = ["--logs", str(tmp_path / "logs"), "--output", str(tmp_path / "out")]
    assert layers.main(["--target", target, "--model", "flattened_cifar", *folders]) == 2
    assert f"tune.py --target {target} --model flattened_cifar" in capsys.readouterr().err


def row(
    alone_ms: float, there_ms: float, mmac: float = 0, mb: float = 0, **more: object
) -> dict[str, Any]:
    return {
        "kernel": "conv",
        "calls": 1,
        "alone_s": alone_ms / 1e3,
        "in_network_s": there_ms / 1e3,
        "macs": int(mmac * 1e6),
        "bytes": int(mb * 1e6),
        **more,
    }


@pytest.mark.parametrize(
    ("kernel", "bound"),
    [
        (row(1.0, 1.1, mmac=50, mb=1), bounds.ARITHMETIC),
        (row(1.0, 1.1, mmac=45, mb=30), bounds.ARITHMETIC),
        (row(0.5, 1.1, mb=20), bounds.BANDWIDTH),
        (row(0.5, 1.1, mb=40), bounds.BETWEEN),
        (row(1.0, 3.0, mmac=50, mb=2), bounds.COLD),
        (row(3.0, 3.1, mmac=50, mb=2), bounds.INSTRUCTIONS),
        (row(3.0, 3.1, mmac=0, mb=20), bounds.CACHE),
        (row(0.002, 0.01, mb=0.001), bounds.CALL),
        (row(1.0, 1.1, mmac=100, mb=1, rule="winograd"), "Winograd's transforms and products"),
        (row(1.0, 1.1, mmac=100, mb=1, rule="strassen_row_blocks"), "Strassen's sums and products"),
        ({"kernel": "vm.builtin.alloc", "calls": 1, "in_network_s": 1e-5}, bounds.RUNTIME),
    ],
)
def test_a_kernel_is_held_by_the_bound_it_is_near(kernel: dict[str, Any], bound: str) -> None:
    assert bound_of(kernel, LIMITS) == bound


def test_the_sentences_say_what_is_lost_and_where() -> None:
    rows = [
        row(1.0, 1.1, mmac=50, mb=1) | {"kernel": "conv a"},
        row(3.0, 4.9, mmac=50, mb=2) | {"kernel": "depthwise b"},
        row(1e-3, 1e-3, mb=0.001) | {"kernel": "tiny"},
    ]
    text = "\n".join(prose.sentences(rows, LIMITS))
    assert "Its kernels take 6.00 ms together" in text and "2.00 ms at the peak (33%" in text
    lines = [line for line in text.splitlines() if line.startswith("- ")]
    assert len(lines) == 2, "what takes next to nothing is left out"
    assert lines[0].startswith("- **the network around it") and "depthwise b (+3.90 ms)" in lines[0]
    assert lines[1].startswith("- **arithmetic**") and "conv a (+0.10 ms)" in lines[1]


def test_results_without_a_bandwidth_have_no_bounds() -> None:
    result = {"threads": 1, "peak_gflops": 100.0}
    assert Limits.of(result) is None
    assert report.seconds(result, [row(1.0, 2.0, mmac=50)])[-1].endswith("| - |")


def test_a_cache_is_read_faster_than_what_does_not_fit_into_it() -> None:
    cores = sorted(os.sched_getaffinity(0))[:1]
    bandwidth = Bandwidth()
    first, far = bandwidth.measure(cores, 16 << 10), bandwidth.measure(cores, 128 << 20)
    assert 1e9 < far < first


NETWORK = """
from torch import nn

def net():
    return nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 8, 1))
"""


def test_kernels_are_counted_on_an_emulated_board(emulator: None, tmp_path: Path) -> None:
    (tmp_path / "small.py").write_text(NETWORK)
    target = targets.load("rasp4")
    small = models.load(f"{tmp_path / 'small.py'}:net", input_shapes=[(1, 8, 12, 12)])
    program = models.trace(small)
    lowered = passes.lower(frontend.import_program(program), target)
    tasks = tune.extract(lowered.mod)
    with MixDevice("aarch64", "cortex-a72") as device:
        store = tune.RecordStore(tmp_path / "logs", target, device.unit)
        options = tune.TuneOptions(trials=1, workers=1)
        tune.tune(tasks, target, device, store, options)
        # As records ship: what was measured, without the winners' schedules.
        for path in store.folder.glob("database_*"):
            path.unlink()
        store = tune.RecordStore(tmp_path / "logs", target, device.unit)
        rows = board.rows(Network(program, lowered, tasks, target), store, device)
    convolutions = [each for each in rows if each["macs"]]
    assert [each["macs"] for each in convolutions] == [9 * 8 * 16 * 36, 16 * 8 * 36]
    for each in convolutions:
        assert each["fmas"] == each["macs"] / 4, "four lanes, and no channel is left over"
        assert each["instructions"] > each["fmas"] + each["stores"]
    assert rows[-1]["kernel"] == "beside the kernels"
    assert -500 * len(rows) < rows[-1]["instructions"] < 50_000, "calling a kernel is taken off"
    table = report.instructions(rows)
    assert len(table) == 2 + len(rows)
    assert "million instructions an inference" in report.instruction_sentences(rows)[0]
