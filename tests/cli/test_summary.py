"""What a terminal shows at the end: figures are never cut, and what to do next works."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from kernels import small_convolution

from tvm_eff import schedules, targets
from tvm_eff.cli import summary, tune
from tvm_eff.deploy.bundle import Bundle, Validation
from tvm_eff.deploy.manifest import TensorInfo, WeightInfo
from tvm_eff.deploy.report import CompileReport
from tvm_eff.device import MachineIdentity, Measurement
from tvm_eff.targets import Target
from tvm_eff.tune import Record, TaskResult
from tvm_eff.tune.records.generation import generation_of

FIGURES = ("12345.678", "1234.567", "10.0", "16", "3")
COMMAND = "tvm-eff tune --target rasp4 --model 'my net.py:Net' --input-shape 1,3,8,8"


@pytest.fixture
def report() -> CompileReport:
    task = replace(small_convolution(), calls=1)
    candidate = schedules.candidates(task.func, targets.load("host"))[0]

    def record(value: float) -> Record:
        return Record(
            workload=task.workload,
            task=task.name,
            candidate=candidate,
            unit="seconds",
            values=(value,),
            machine=MachineIdentity("Linux"),
            generation=generation_of(candidate, targets.load("host")),
        )

    result = TaskResult(
        task=task,
        candidate=candidate,
        best=record(1.234567),
        before=record(12.345678),
        is_prior=False,
        measured=16,
        failed=3,
    )
    return CompileReport(
        target=targets.load("rasp4"),
        dtype="float32",
        tasks=[result],
        fastest=[result],
        where="a board",
        ran_elsewhere=False,
        measurement=Measurement((1.3,), "seconds"),
        measured=16,
        failed=3,
        seconds=12.0,
        virtual_machine=None,
    )


@pytest.fixture
def bundle(tmp_path: Path, report: CompileReport) -> Bundle:
    from types import SimpleNamespace

    (tmp_path / "model.so").write_bytes(b"library")
    return SimpleNamespace(  # type: ignore[return-value]
        folder=tmp_path,
        library=tmp_path / "model.so",
        error=1e-7,
        manifest=SimpleNamespace(
            model="net",
            inputs=(TensorInfo("image", (1, 2), "float32"),),
            weights=(WeightInfo(("a",), "k", (9,), "float32", 8_100_000, 1_800_000, "winograd4"),),
            validation=Validation(1e-5, 1e-7, 3, "a board", reference_errors=(2e-7, 1e-7)),
        ),
    )


def printed(
    bundle: Bundle, report: CompileReport, capsys: pytest.CaptureFixture[str], command: str
) -> str:
    summary.print_summary(bundle, report, command)
    return capsys.readouterr().out


@pytest.mark.parametrize("columns", [80, 100, 200])
def test_no_figure_is_cut_in_a_terminal(
    columns: int,
    bundle: Bundle,
    report: CompileReport,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    text = printed(bundle, report, capsys, COMMAND)
    for figure in FIGURES:
        assert figure in text
    assert ("register_tile" in text) == (columns >= 100)


def test_a_pipe_has_room_for_all(
    bundle: Bundle,
    report: CompileReport,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    text = printed(bundle, report, capsys, COMMAND)
    for figure in (*FIGURES, report.tasks[0].task.label, "register_tile"):
        assert figure in text


def test_what_to_do_next_is_what_was_typed(
    bundle: Bundle,
    report: CompileReport,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = printed(bundle, report, capsys, COMMAND)
    assert f"{COMMAND} --rpc 127.0.0.1:9090" in text
    assert "tvm-eff board-server --arch aarch64" in text
    assert f"tvm-eff bench {bundle.folder} --rpc 127.0.0.1:9090" in text
    monkeypatch.setenv("PATH", "/usr/bin")
    assert f"{os.path.relpath(sys.prefix)}/bin/tvm-eff board-server" in printed(
        bundle, report, capsys, COMMAND
    )
    assert "tvm.exec.rpc_server" not in text
    text = printed(
        bundle, report, capsys, COMMAND.replace("tvm-eff tune", "python scripts/tune.py")
    )
    assert f"python scripts/bench.py {bundle.folder} --rpc 127.0.0.1:9090" in text
    assert "tvm_eff_run" not in text
    (bundle.folder / "tvm_eff_run").touch()
    name = bundle.folder.name
    assert f" {name}/tvm_eff_run {name}\n" in printed(bundle, report, capsys, COMMAND)
    # No script of a checkout makes the server.
    assert "tvm-eff board-server" in text


def test_the_command_that_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--target", "rasp4", "--model", "my net.py:Net", "--json", "--rpc=a:1", "--key", "k"]
    monkeypatch.setattr(sys, "argv", ["scripts/tune.py"])
    assert tune._typed(words) == "python scripts/tune.py --target rasp4 --model 'my net.py:Net'"
    monkeypatch.setattr(sys, "argv", ["/usr/bin/tvm-eff", "tune"])
    assert tune._typed(["--rpc", "a:1", "--no-measure", "--trials", "3"]) == (
        "tvm-eff tune --trials 3"
    )


def test_the_host_needs_no_server(
    bundle: Bundle, report: CompileReport, capsys: pytest.CaptureFixture[str]
) -> None:
    host: Target = targets.load("host")
    text = printed(bundle, replace(report, target=host), capsys, COMMAND)
    assert f'tvm_eff.load("{bundle.folder}")(x)' in text
    assert "tvm_eff_server" not in text


def test_several_inputs_are_named(
    bundle: Bundle, report: CompileReport, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle.manifest.inputs = tuple(  # type: ignore[misc]
        TensorInfo(name, (1, 2), "float32") for name in ("image", "state_h")
    )
    text = printed(bundle, replace(report, target=targets.load("host")), capsys, COMMAND)
    assert f'tvm_eff.load("{bundle.folder}")(image, state_h)' in text
