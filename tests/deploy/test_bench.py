"""bench: checks before it times, and says where every figure comes from."""

from __future__ import annotations

import json
import platform
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from made_bundles import Maker

from tvm_eff.cli.bench import main
from tvm_eff.device import server
from tvm_eff.device.server_process import ServerProcess

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench.py"
here_is_x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="rasp4 code runs here")


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Return the message of a command line that must fail."""
    assert main([str(argument) for argument in arguments]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("error: ") and "Traceback" not in output.err
    return output.err


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Return what a command line prints that must succeed."""
    assert main([str(argument) for argument in arguments]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    return output.out


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def rpc_server() -> Iterator[ServerProcess]:
    process = ServerProcess(lambda files: [sys.executable, server.__file__, *files.options], {})
    try:
        yield process
    finally:
        process.stop()


def test_no_bundle(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "there is no bundle" in told(capsys, tmp_path / "none")


def test_options_that_do_not_fit_together(
    capsys: pytest.CaptureFixture[str], maker: Maker, tmp_path: Path
) -> None:
    folder = maker.write(tmp_path / "b").folder
    assert "give --rpc" in told(capsys, folder, "--key", "pi")
    assert "TVM_NUM_THREADS" in told(capsys, folder, "--rpc", "pi:9090", "--threads", 2)
    assert "is not an address" in told(capsys, folder, "--rpc", "pi")
    assert "more than the" in told(capsys, folder, "--threads", 1000)
    assert "host has no emulated board" in told(capsys, folder, "--emulated")
    board = maker.write(tmp_path / "board", "rasp4").folder
    assert "leave --threads out" in told(capsys, board, "--emulated", "--threads", 2)


def test_a_board_that_is_not_there(
    capsys: pytest.CaptureFixture[str], maker: Maker, tmp_path: Path
) -> None:
    folder = maker.write(tmp_path / "b").folder
    message = told(capsys, folder, "--rpc", f"127.0.0.1:{free_port()}")
    assert "nothing listens on 127.0.0.1" in message


def test_wrong_outputs_are_not_timed(
    capsys: pytest.CaptureFixture[str], maker: Maker, tmp_path: Path
) -> None:
    folder = maker.write(tmp_path / "b", expected=2.5).folder
    assert "output 0 is wrong" in told(capsys, folder)


def test_here(capsys: pytest.CaptureFixture[str], maker: Maker, tmp_path: Path) -> None:
    folder = maker.write(tmp_path / "b").folder
    text = printed(capsys, folder, "--threads", 1, "--repeat", 7)
    assert "p10 " in text and "p50 " in text and "p90 " in text and "(7 inferences)" in text
    assert "outputs correct" in text
    assert "where: this machine (" in text and "1 thread)" in text
    assert "instructions" not in text


def test_json_of_an_rpc_server(
    capsys: pytest.CaptureFixture[str], maker: Maker, tmp_path: Path, rpc_server: ServerProcess
) -> None:
    folder = maker.write(tmp_path / "b").folder
    address, key_file = f"127.0.0.1:{rpc_server.port}", rpc_server.folder / "key"
    options = ["--rpc", address, "--key-file", key_file, "--repeat", 5, "--json"]
    report = json.loads(printed(capsys, folder, *options))
    assert report["unit"] == "seconds"
    assert report["where"] == f"rpc {address}"
    assert len(report["values"]) == 5
    assert 0 < report["p10_ms"] <= report["p50_ms"] <= report["p90_ms"]
    assert report["largest_error"] < 1e-6


@here_is_x86
def test_a_boards_bundle_goes_to_the_emulated_board(
    capsys: pytest.CaptureFixture[str], maker: Maker, tmp_path: Path, emulator: None
) -> None:
    folder = maker.write(tmp_path / "b", "rasp4").folder
    text = printed(capsys, folder)
    assert "million instructions executed; this is not a latency" in text
    assert "where: emulated cortex-a72 (qemu " in text
    assert "It ran on the emulated board, since it was made for rasp4" in text
    assert " ms" not in text


def test_emulated_json_has_no_time(
    capsys: pytest.CaptureFixture[str], maker: Maker, tmp_path: Path, emulator: None
) -> None:
    folder = maker.write(tmp_path / "b", "rasp3-armv7").folder
    report = json.loads(printed(capsys, folder, "--emulated", "--json"))
    assert report["unit"] == "instructions"
    assert len(report["values"]) == 1 and report["values"][0] > 100
    assert not [key for key in report if key.endswith("_ms")]


def test_help_does_not_wait_for_tvm(tmp_path: Path) -> None:
    script = (
        "import runpy, sys\n"
        "sys.argv = ['bench.py', '--help']\n"
        f"sys.path.insert(0, {str(SCRIPT.parent)!r})\n"
        "try:\n"
        f"    runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
        "finally:\n"
        "    print(sorted({'tvm', 'torch', 'numpy'} & sys.modules.keys()), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0
    assert done.stderr == "[]\n"
    assert "--rpc HOST:PORT" in done.stdout
