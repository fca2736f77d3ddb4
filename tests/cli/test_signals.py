"""Signals that ask a command to end: it stops what it started, once, and says so."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = """
import sys, time
from pathlib import Path
from tvm_eff.cli.run import leave, run

def main(argv):
    try:
        print("working", flush=True)
        time.sleep(60)
    finally:
        time.sleep(float(sys.argv[1]))
        Path(sys.argv[2]).touch()

leave(run(main))
"""


def command(folder: Path, cleaning: float = 0.0) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(cleaning), str(folder / "cleaned")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs the tests by nohup has them ignore it.
        preexec_fn=_not_by_nohup,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    return process


def _not_by_nohup() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_what_was_started_is_stopped(name: str, tmp_path: Path) -> None:
    number = getattr(signal, name)
    process = command(tmp_path)
    process.send_signal(number)
    _, told = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert told == "interrupted; run the same command again to go on\n"
    assert (tmp_path / "cleaned").exists()


def test_ctrl_c_pressed_twice(tmp_path: Path) -> None:
    process = command(tmp_path, cleaning=1.0)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
    _, told = process.communicate(timeout=20)
    assert process.returncode == 130
    assert told == "interrupted; run the same command again to go on\n"
    assert (tmp_path / "cleaned").exists()


def test_who_insists_is_not_kept_waiting(tmp_path: Path) -> None:
    process = command(tmp_path, cleaning=60.0)
    began = time.monotonic()
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
    _, told = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in told
    assert time.monotonic() - began < 10


def test_nohup_is_respected(tmp_path: Path) -> None:
    process = subprocess.Popen(
        ["nohup", sys.executable, "-c", COMMAND, "0", str(tmp_path / "cleaned")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert process.poll() is None
    process.kill()
    process.communicate()
