"""Whatever README.md and the pages tell a user to type is understood by what it calls.

Each command goes to the real parser of its verb, script or benchmark, which is stopped once it
has parsed: nothing is tuned, measured or written.
"""

from __future__ import annotations

import argparse
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tvm_eff import targets
from tvm_eff.cli import __main__ as front
from tvm_eff.errors import Error
from tvm_eff.models import registry

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

FENCED = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`([^`]+)`")
PYTHONS = ("python", "python3", ".venv/bin/python", "tvm/bin/python")
FRONT = ("tvm-eff", ".venv/bin/tvm-eff")
PIPS = ("pip", "tvm/bin/pip", "run/bin/pip", ".venv/bin/pip")
# Tools of the system, whose options are theirs.
SYSTEM = (
    *("scp", "ssh", "sudo apt-get install", ". .venv/bin/activate"),
    *("openssl rand -hex 32", "chmod 600", "export SOURCE_DATE_EPOCH", "sha256sum"),
    *("openssl genpkey", "openssl pkey", "ssh-keygen"),
)
PLACEHOLDER = re.compile(r"[A-Z]+|path/to/.*|package\.module:.*|net\.pt2")


@dataclass(frozen=True)
class Command:
    """A command, and the page that tells to type it."""

    page: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"


class Parsed(BaseException):
    """The parser has understood the command, which must not go on."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        super().__init__()
        self.arguments = arguments


def commands_of(page: Path) -> Iterator[Command]:
    """Return the commands of a page: those in blocks of sh, and those in the text."""
    text, name = page.read_text(encoding="utf-8"), str(page.relative_to(ROOT))
    for language, block in FENCED.findall(text):
        if language == "sh":
            for line in block.replace("\\\n", " ").splitlines():
                for part in line.split("&&"):
                    if words := shlex.split(part, comments=True):
                        yield Command(name, tuple(words))
    for code in INLINE.findall(FENCED.sub("", text)):
        words = code.split()
        if len(words) > 1 and words[0] in (*PYTHONS, *FRONT):
            yield Command(name, tuple(words))


def collected() -> list[Command]:
    """Return every command once, with the first page that has it."""
    found: dict[tuple[str, ...], Command] = {}
    for page in PAGES:
        for command in commands_of(page):
            found.setdefault(command.words, command)
    return list(found.values())


@pytest.fixture
def stopping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop whatever parses its arguments once it has."""
    parse = argparse.ArgumentParser.parse_args

    def stop(self: argparse.ArgumentParser, *args: Any, **options: Any) -> None:
        raise Parsed(parse(self, *args, **options))

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)


def check(words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a command understood by what it calls."""
    if words[0] in PYTHONS:
        check_python(words[1:], monkeypatch)
    elif words[0] in FRONT:
        monkeypatch.setattr(sys, "argv", ["tvm-eff", *words[1:]])
        with understood():
            front.main()
    elif words[0] in PIPS:
        check_pip(words[1:])
    elif words[0] == "./tvm_eff_server":
        source = (ROOT / "runtime" / "cpp" / "rpc_server.cc").read_text()
        assert [word for word in words if word[:2] == "--" and word not in source] == []
    else:
        assert " ".join(words).startswith(SYSTEM), f"what is {words[0]}?"


def check_python(words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Check a script or a module that Python runs."""
    monkeypatch.setattr(sys, "argv", list(words))
    if words[0] != "-m":
        script = ROOT / words[0]
        assert script.is_file(), f"there is no {words[0]}"
        monkeypatch.syspath_prepend(str(script.parent))
        with understood():
            runpy.run_path(str(script), run_name="__main__")
        return
    module = words[1]
    monkeypatch.setattr(sys, "argv", list(words[1:]))
    if module == "pytest":
        check_pytest(words[2:])
    elif module in ("ruff", "mypy"):
        assert f"-m {' '.join(words[1:])}\n" in (ROOT / ".ci" / "run").read_text()
    else:
        assert module in ("study", "sphinx", "venv", "tvm.exec.rpc_server"), f"what is {module}?"
        with understood():
            runpy.run_module(module, run_name="__main__", alter_sys=False)


def check_pytest(words: Sequence[str]) -> None:
    """Check that pytest knows the options, and that the files are there."""
    options = [word for word in words if "/" not in word]
    command = [
        sys.executable,
        "-m",
        "pytest",
        *options,
        "--collect-only",
        "tests/docs/test_site.py",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    # That a marker selects none of these tests is no misuse.
    assert done.returncode in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED), done.stderr
    assert [word for word in words if "/" in word and not (ROOT / word).exists()] == []


def check_pip(words: Sequence[str]) -> None:
    """Check that versions are those that setup.py pins."""
    assert words[0] in ("install", "freeze")
    pinned = set(re.findall(r'"([\w-]+==[\w.]+)"', (ROOT / "setup.py").read_text()))
    assert {word for word in words if "==" in word} - pinned == set()


@contextmanager
def understood() -> Iterator[None]:
    """Run what must end with a parser having understood its arguments."""
    try:
        yield
    except Parsed as parsed:
        check_values(parsed.arguments)
    except SystemExit as refused:
        pytest.fail(f"refused with {refused.code}; see what it printed")
    else:
        pytest.fail("it ended without a look at its arguments")


def check_values(arguments: argparse.Namespace) -> None:
    """Check that targets and models that a command names are there."""
    target = getattr(arguments, "target", None)
    if isinstance(target, str) and not PLACEHOLDER.fullmatch(target):
        try:
            targets.load(ROOT / target if target.endswith(".toml") else target)
        except Error:
            assert any((ROOT / "tuning_logs").glob(target)), f"no target {target}"
    model = getattr(arguments, "model", None)
    if isinstance(model, str) and not PLACEHOLDER.fullmatch(model):
        file, _, name = model.partition(":")
        if name:
            assert f"class {name}(" in (ROOT / file).read_text()
        else:
            registry.spec(model)


def test_commands_are_found() -> None:
    found = collected()
    assert len(found) > 40
    texts = [" ".join(each.words) for each in found]
    assert "python3 scripts/setup_env.py" in texts
    assert "python -m study --target host" in texts
    # One that goes on in a second line.
    own = "scripts/tune.py --target rasp4 --model path/to/net.py:Net --input-shape 1,3,224,224"
    assert f"python {own} --weights net.safetensors" in texts


@pytest.mark.parametrize(
    "line",
    [
        "python scripts/tune.py --target rasp4 --model squeezenet --trails 3",
        "python scripts/tune.py --model squeezenet",
        "python scripts/tune.py --target rasp44 --model squeezenet",
        "python scripts/study.py --target host",
        "tvm-eff records prun --target rasp4",
        "tvm-eff board-server --architecture aarch64",
        "tvm-eff serve",
        "python scripts/doctor.py --jsn",
        "python scripts/setup_env.py --devel",
        "python benchmarks/replay.py --compare before.json",
        "python -m study --target host --fast",
        "python -m sphinx --warnings docs build/docs",
        "python -m tvm.exec.rpc_server --prt 9090",
        "python -m pytest --no-such-option",
        "python -m ruff check --no-such-option",
        "tvm/bin/pip install apache-tvm==0.26.0",
        "./tvm_eff_server --prt 9090",
        "docker run tvm_eff",
    ],
)
def test_a_wrong_command_is_found(
    line: str, stopping: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises((pytest.fail.Exception, AssertionError)):
        check(shlex.split(line), monkeypatch)


@pytest.mark.parametrize("command", collected(), ids=str)
def test_command(command: Command, stopping: None, monkeypatch: pytest.MonkeyPatch) -> None:
    check(command.words, monkeypatch)
