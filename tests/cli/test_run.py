"""How every command line ends: one message and an exit code, never a traceback."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from argparse import ArgumentTypeError
from contextlib import suppress
from pathlib import Path

import pytest

from tvm_eff.cli import interrupt
from tvm_eff.cli.arguments import one_of, positive
from tvm_eff.cli.run import Main, run
from tvm_eff.errors import BundleError
from tvm_eff.progress import RichProgress


def raising(error: BaseException) -> Main:
    def main(argv: list[str] | None) -> int | None:
        raise error

    return main


def test_an_error_is_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(raising(BundleError("dist/x is damaged; build it again"))) == 2
    assert capsys.readouterr() == ("", "error: dist/x is damaged; build it again\n")


def test_an_interrupt_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr() == ("", "interrupted; run the same command again to go on\n")


def test_an_interrupt_that_a_finalizer_swallowed(capsys: pytest.CaptureFixture[str]) -> None:
    def main(argv: list[str] | None) -> int | None:
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with RichProgress(on_event=interrupt.check) as progress:
            progress.step("the next step")
        return 0

    assert run(main) == 130
    assert "interrupted" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_of_an_earlier_command_is_forgotten() -> None:
    assert run(raising(KeyboardInterrupt())) == 130
    with RichProgress(on_event=interrupt.check) as progress:
        assert run(lambda argv: progress.step("the next command")) == 0


def test_a_full_disk(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(raising(OSError(errno.ENOSPC, "No space left on device", "logs/a.json"))) == 2
    expected = "error: no room on the disk for logs/a.json; free some and run it again\n"
    assert capsys.readouterr() == ("", expected)


@pytest.mark.parametrize("error", [ValueError("ours"), OSError(errno.EIO, "broken")])
def test_a_defect_is_written_down(
    error: Exception,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TVM_EFF_CACHE", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["tune", "--key", "a-secret", "--key=another", "--model", "x"])
    assert run(raising(error)) == 1
    (details,) = (tmp_path / "failures").iterdir()
    told = capsys.readouterr().err
    assert told.startswith(f"internal error: {type(error).__name__} in tvm_eff/cli/run.py:")
    assert told.count("\n") == 1
    assert f"the details are in {details}: report it" in told
    text = details.read_text()
    assert "command: tune --key ... --key=... --model x" in text
    assert "secret" not in text
    assert "another" not in text
    assert "Traceback (most recent call last)" in text
    assert str(error) in text
    assert "apache-tvm 0" in text


def test_a_defect_that_cannot_be_written_down(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TVM_EFF_CACHE", str(tmp_path / "file"))
    assert run(raising(ValueError("ours"))) == 1
    assert "not your mistake; report it: ValueError: ours" in capsys.readouterr().err


def test_a_reader_that_leaves_is_no_noise() -> None:
    script = (
        "import sys\n"
        "from tvm_eff.cli.run import run\n"
        "sys.exit(run(lambda argv: [print('a line') for _ in range(100_000)] and None))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == b"a line\n"
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(30) == 1


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (3, 3)])
def test_exit_code_of_what_ends_well(returned: int | None, code: int) -> None:
    assert run(lambda argv: returned, []) == code


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many", "", "²"])
def test_not_a_positive_number(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="is not a whole number of at least 1"):
        positive(text)


def test_a_word_that_is_not_known() -> None:
    read = one_of("model", ["squeezenet", "mobilenet"])
    assert read("mobilenet") == "mobilenet"
    with pytest.raises(ArgumentTypeError, match="unknown model 'squeezent'; did you mean 'squeeze"):
        read("squeezent")
