"""``tvm-eff``: its verbs, what it says to a wrong one, and how soon ``--help`` answers."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

import tvm_eff
from tvm_eff.cli.__main__ import VERBS

COMMAND = [sys.executable, "-m", "tvm_eff.cli"]
HELP_SECONDS = 0.4
WORDS = {
    "tune": ["--target", "host", "--model", "mobilenet"],
    "bench": ["no-bundle"],
    "records": ["list"],
    "board-server": ["--arch", "aarch64"],
}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)


def processor_seconds() -> float:
    """Return what the processes that this one waited for have taken."""
    times = os.times()
    return times.children_user + times.children_system


def test_all_verbs_are_listed() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert all(verb in done.stdout for verb in VERBS)


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_answers_at_once(verb: str) -> None:
    # The processor time, and the least of a few: others may hold the cores meanwhile.
    taken = []
    for _ in range(5):
        began = processor_seconds()
        done = run(*([verb] if verb else []), "--help")
        taken.append(processor_seconds() - began)
        assert (done.returncode, done.stderr) == (0, "")
        assert f"usage: tvm-eff {verb}".strip() in done.stdout
    assert min(taken) < HELP_SECONDS


def test_unknown_verb_names_the_nearest() -> None:
    done = run("tone")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: unknown verb 'tone'; did you mean 'tune'?\n"


def test_version() -> None:
    assert run("--version").stdout == f"tvm-eff {tvm_eff.__version__}\n"


@pytest.mark.parametrize("verb", ["tune", "bench", "models", "records", "board-server"])
def test_a_verb_whose_packages_are_not_installed(verb: str) -> None:
    script = (
        "import sys\n"
        "for name in ('tvm', 'torch', 'tvm_ffi', 'rich', 'psutil', 'filelock', 'platformdirs'):\n"
        "    sys.modules[name] = None\n"
        "from tvm_eff.cli.__main__ import main\n"
        f"sys.argv = ['tvm-eff', '{verb}', *{WORDS.get(verb, [])}]\n"
        "sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(
        r"error: the package '\w+' is not installed, .* run: pip install 'tvm_eff\[compile\]'\n",
        done.stderr,
    )
