"""``tune`` on wrong input: one message that names what is wrong, exit code 2, nothing written."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tvm_eff.cli import tune

ROOT = Path(__file__).resolve().parents[2]
RASP4 = ["--target", "rasp4", "--model", "squeezenet1_1"]
HOST = ["--target", "host", "--model", "squeezenet1_1"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def message_of(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> str:
    """Run the command, which must fail as a user's mistake; return the message alone."""
    try:
        code = tune.main(arguments)
    except SystemExit as left:  # argparse leaves so
        assert isinstance(left.code, int)
        code = left.code
    out, err = capfd.readouterr()
    assert code == 2
    assert out == ""
    assert "Traceback" not in err
    assert err.count("error: ") == 1
    message: str = err.partition("error: ")[2]
    assert message.count("\n") == 1
    return message.strip()


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ([], "--target, --model"),
        (["--target", "rasp4"], "--model"),
        (["--target", "raps4", "--model", "squeezenet"], "unknown target 'raps4'; did you mean"),
        (["--target", "tpu", "--model", "squeezenet"], "'tpu'; known: host, opencl-host, rasp3"),
        (["--target", "absent.toml", "--model", "squeezenet"], "absent.toml"),
        (["--target", "rasp4", "--model", "sqeezenet"], "'sqeezenet'; did you mean 'squeezenet'"),
        ([*RASP4, "--trials", "0"], "--trials: '0' is not a whole number"),
        ([*RASP4, "--trials", "-1"], "--trials: '-1'"),
        ([*RASP4, "--trials", "many"], "--trials: 'many'"),
        ([*RASP4, "--workers", "1.5"], "--workers: '1.5'"),
        ([*RASP4, "--inputs", ""], "--inputs: ''"),
        ([*RASP4, "--budget", "soon"], "--budget: 'soon' is not a span of time"),
        ([*RASP4, "--budget", "0s"], "--budget: '0s'"),
        ([*RASP4, "--budget", ""], "--budget: ''"),
        ([*RASP4, "--until-roofline", "95"], "--until-roofline: '95' is not a share"),
        ([*RASP4, "--until-roofline", "0"], "--until-roofline: '0'"),
        ([*RASP4, "--until-roofline", "nan"], "--until-roofline: 'nan'"),
        ([*RASP4, "--rcp", "board:9090"], "--rcp"),
        ([*RASP4, "--rpc", "board"], "'board' is not an address; write HOST:PORT"),
        ([*RASP4, "--rpc", "board:http"], "'http' in 'board:http' is not a port"),
        ([*RASP4, "--rpc", "board:65536"], "'65536'"),
        ([*RASP4, "--rpc", "no.such.board.invalid:9090"], "'no.such.board.invalid' is not known"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_value(
    arguments: list[str], wanted: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert wanted in message_of(arguments, capfd)
    assert files(folder) == []


def test_board_that_does_not_answer(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        message = message_of([*RASP4, "--rpc", address], capfd)
    assert f"nothing listens on {address}" in message
    assert "tvm-eff board-server" in message
    assert files(folder) == []


@pytest.mark.parametrize(
    ("line", "instead", "wanted"),
    [
        ("issue_width", "issue_widht = 3", "'hardware.issue_width' is missing"),
        ("issue_width", "", "'hardware.issue_width' is missing"),
        ("clock_ghz", 'clock_ghz = 1.5\ncolour = "green"', "colour"),
        ("mcpu", 'mcpu = "cortex-a720000"', "'cortex-a720000'"),
    ],
)
def test_target_file_with_a_mistake(
    line: str, instead: str, wanted: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lines = (ROOT / "targets" / "rasp4.toml").read_text().splitlines()
    changed = [instead if each.startswith(line) else each for each in lines]
    (folder / "board.toml").write_text("\n".join(changed))
    message = message_of(["--target", "board.toml", "--model", "squeezenet1_1"], capfd)
    assert "board.toml" in message
    assert wanted in message
    assert files(folder) == [folder / "board.toml"]


@pytest.mark.parametrize("option", ["--output", "--logs"])
@pytest.mark.parametrize("below", ["", "deeper"])
def test_folder_that_cannot_be_written(
    option: str, below: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    in_the_way = folder / "in_the_way"
    in_the_way.write_text("a file")
    message = message_of([*HOST, option, str(in_the_way / below)], capfd)
    assert str(in_the_way) in message
    assert option in message
    assert files(folder) == [in_the_way]
    assert in_the_way.read_text() == "a file"


@pytest.mark.parametrize("verb", ["tune", "bench"])
def test_help_imports_nothing_heavy(verb: str, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", ROOT / "scripts" / f"{verb}.py", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert done.stdout.startswith(f"usage: tvm-eff {verb}")
    assert "tvm_eff" in imported
    assert imported.isdisjoint({"tvm", "torch", "numpy", "rich"})


def test_script_prints_the_error_of_a_user_alone(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "tune.py", "--target", "rasp4", "--model", "resnext"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: unknown model 'resnext'")
    assert files(folder) == []
