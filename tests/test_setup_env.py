"""Setting up, offline: the script's copy prepares a checkout whose packages need no network."""

from __future__ import annotations

import functools
import hashlib
import http.server
import importlib.util
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "setup_env.py"
# A build backend of its own, so that pip fetches none: it makes a wheel of empty
# modules under the names that the script checks.
BACKEND = """
import sys, zipfile
from pathlib import Path

def build_editable(folder, config_settings=None, metadata_directory=None):
    if Path("broken").exists():
        sys.exit(Path("broken").read_text())
    name = "tvm_eff-1.0-py3-none-any.whl"
    info = "tvm_eff-1.0.dist-info/"
    with zipfile.ZipFile(Path(folder, name), "w") as wheel:
        for module in ("tvm", "torch", "tvm_eff"):
            wheel.writestr(module + ".py", "")
        wheel.writestr(
            info + "METADATA",
            "Metadata-Version: 2.1\\nName: tvm_eff\\nVersion: 1.0\\nProvides-Extra: dev\\n",
        )
        wheel.writestr(
            info + "WHEEL",
            "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        )
        wheel.writestr(info + "RECORD", "")
    return name
"""


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("setup_env", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    (root / "scripts").mkdir(parents=True)
    shutil.copy(SCRIPT, root / "scripts")
    (root / "backend.py").write_text(BACKEND, encoding="utf-8")
    (root / "setup.py").write_text("# hashed by the script\n", encoding="utf-8")
    (root / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        encoding="utf-8",
    )
    return root


def set_up(checkout: Path, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    # A proxy where nothing listens: whatever wants the network fails at once.
    nowhere = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    return subprocess.run(
        [sys.executable, str(checkout / "scripts" / "setup_env.py"), *options],
        capture_output=True,
        text=True,
        env=os.environ | nowhere | variables,
        check=False,
    )


def state(checkout: Path) -> list[str]:
    return (checkout / ".venv" / "tvm_eff_setup").read_text(encoding="utf-8").split()


@pytest.mark.parametrize("version", [(3, 8), (3, 9), (3, 13), (4, 0)])
def test_unsupported_python(script: ModuleType, version: tuple[int, int]) -> None:
    message = script.unsupported_python(version, "/usr/bin/python3")
    assert f"/usr/bin/python3 is Python {version[0]}.{version[1]}" in message
    assert "3.10, 3.11 or 3.12" in message
    assert "python3.11 scripts/setup_env.py" in message


def test_supported_pythons(script: ModuleType) -> None:
    assert [script.unsupported_python((3, minor), "") for minor in (10, 11, 12)] == ["", "", ""]


@pytest.mark.parametrize(
    ("system", "machine", "libc", "expected"),
    [
        ("Windows", "AMD64", "", "WSL"),
        ("Linux", "riscv64", "glibc", "no packages"),
        ("Darwin", "x86_64", "", "no packages"),
        ("Linux", "x86_64", "", "Alpine"),
    ],
)
def test_unsupported_machine(
    script: ModuleType, system: str, machine: str, libc: str, expected: str
) -> None:
    assert expected in script.unsupported_machine(system, machine, libc)


def test_script_is_written_in_old_syntax() -> None:
    """Python 3.8 must get as far as the message."""
    import ast

    ast.parse(SCRIPT.read_text(encoding="utf-8"), feature_version=(3, 8))


def test_second_run_is_cached_and_a_change_is_not(checkout: Path) -> None:
    first = set_up(checkout)
    assert first.returncode == 0, first.stderr
    python = checkout / ".venv" / "bin" / "python"
    assert subprocess.run([python, "-c", "import tvm_eff"], check=False).returncode == 0

    started = time.monotonic()
    second = set_up(checkout)
    assert time.monotonic() - started < 2
    assert second.returncode == 0
    assert "is up to date" in second.stdout

    assert "is ready" in set_up(checkout, "--dev").stdout
    assert state(checkout)[-1] == "dev"
    assert "is up to date" in set_up(checkout).stdout  # more than asked for is enough

    (checkout / "setup.py").write_text("# a new requirement\n", encoding="utf-8")
    assert "is ready" in set_up(checkout).stdout
    assert state(checkout)[-1] == "dev"


def test_failed_run_does_not_look_complete(checkout: Path) -> None:
    broken = checkout / "broken"
    broken.write_text("OSError: [Errno 28] No space left on device", encoding="utf-8")
    done = set_up(checkout)
    assert done.returncode == 2
    assert "no room on the disk" in done.stderr
    assert "Traceback" not in done.stderr.partition("setup_env: error")[2]
    assert state(checkout) == ["incomplete"]
    broken.unlink()
    assert set_up(checkout).returncode == 0
    assert "is up to date" in set_up(checkout).stdout


def test_no_network(checkout: Path) -> None:
    text = (checkout / "pyproject.toml").read_text(encoding="utf-8")
    (checkout / "pyproject.toml").write_text(
        text.replace("requires = []", 'requires = ["setuptools"]'), encoding="utf-8"
    )
    nothing = {"PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""}
    done = set_up(checkout, PIP_INDEX_URL="http://127.0.0.1:9/simple", **nothing)
    assert done.returncode == 2
    assert "the package index cannot be reached" in done.stderr
    assert state(checkout) == ["incomplete"]


def test_somebody_elses_environment_is_left_alone(checkout: Path) -> None:
    mine = checkout / ".venv" / "mine"
    mine.parent.mkdir()
    mine.write_text("precious", encoding="utf-8")
    done = set_up(checkout)
    assert done.returncode == 2
    assert "was not made by this script" in done.stderr
    assert mine.read_text(encoding="utf-8") == "precious"


def test_unknown_option(checkout: Path) -> None:
    done = set_up(checkout, "--devv")
    assert done.returncode == 2
    assert "--devv" in done.stderr
    assert not (checkout / ".venv").exists()


def bundled_pip() -> Path:
    """Return the pip wheel that comes with Python, or with Debian's python3-venv."""
    import ensurepip

    folders = (Path(ensurepip.__file__).parent / "_bundled", Path("/usr/share/python-wheels"))
    return next(wheel for folder in folders for wheel in folder.glob("pip-*.whl"))


@pytest.fixture
def pip_index(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Serve a package index with one good pip; yield its address and folder."""
    wheel = bundled_pip()
    folder = tmp_path / "index" / "pip"
    folder.mkdir(parents=True)
    shutil.copy(wheel, folder)
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    (folder / "index.html").write_text(
        f'<a href="pip-9.0-py3-none-any.whl#sha256={"0" * 64}">old</a>\n'
        f'<a href="{wheel.name}#sha256={sha256}">new</a>\n',
        encoding="utf-8",
    )
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()
        thread.join()


@pytest.fixture
def bare_python(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment without pip, which the script is to give one."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    python = tmp_path / "bare" / "bin" / "python"
    monkeypatch.setattr(script, "PYTHON", python)
    return python


def test_pip_comes_from_the_index_where_python_has_none(
    script: ModuleType,
    bare_python: Path,
    pip_index: tuple[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", pip_index[0])
    assert subprocess.run([bare_python, "-m", "pip", "list"], check=False).returncode != 0
    script.bootstrap_pip()
    subprocess.run([bare_python, "-m", "pip", "list"], check=True)


def test_damaged_pip_is_not_run(
    script: ModuleType,
    bare_python: Path,
    pip_index: tuple[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    address, folder = pip_index
    wheel = next(folder.glob("pip-*.whl"))
    wheel.write_bytes(wheel.read_bytes()[:-1])
    monkeypatch.setenv("PIP_INDEX_URL", address)
    with pytest.raises(SystemExit) as caught:
        script.bootstrap_pip()
    assert caught.value.code == 2
    assert "is damaged" in capsys.readouterr().err
    assert subprocess.run([bare_python, "-m", "pip", "list"], check=False).returncode != 0


def test_no_pip_anywhere_names_the_package_to_install(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9")
    with pytest.raises(SystemExit) as caught:
        script.bootstrap_pip()
    assert caught.value.code == 2
    line = f"sudo apt-get install python3.{sys.version_info[1]}-venv"
    assert line in capsys.readouterr().err
