"""The shape of the house: imports go down only, files and functions stay small."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("tvm_eff", "study")
MAX_FILE_LINES, MAX_FUNCTION_LINES = 400, 60


def sources(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    # What begins with a dot, such as benchmarks/.venv, is other people's.
    return [
        path
        for path in found
        if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
    ]


def test_imports_go_down_only() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("folder", [*PACKAGES, "scripts", "benchmarks", "tests"])
def test_no_file_is_long(folder: str) -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in sources(folder)}
    long = {str(path): lines for path, lines in lengths.items() if lines > MAX_FILE_LINES}
    assert long == {}


def functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            # A docstring is no code, nor are the names and types of the parameters.
            first = node.body[0]
            documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            body = node.body[1:] if documented else node.body
            start = body[0].lineno if body else node.lineno
            yield node.name, (node.end_lineno or start) - start + 1


@pytest.mark.parametrize("folder", [*PACKAGES, "scripts", "benchmarks", "tests"])
def test_no_function_is_long(folder: str) -> None:
    long = {
        f"{path.relative_to(ROOT)}:{name}": lines
        for path in sources(folder)
        for name, lines in functions(path)
        if lines > MAX_FUNCTION_LINES
    }
    assert long == {}


def private_imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tvm_eff"):
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            yield from (name for name in names if name.startswith("_") and name[:2] != "__")


@pytest.mark.parametrize("folder", ["study", "scripts", "benchmarks", "tests"])
def test_nothing_outside_the_package_imports_a_private_name(folder: str) -> None:
    found = {str(path): list(private_imports(path)) for path in sources(folder)}
    assert {path: names for path, names in found.items() if names} == {}
