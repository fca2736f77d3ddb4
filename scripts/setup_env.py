"""Prepare the folder .venv of this checkout with everything that tvm_eff needs.

    python3 scripts/setup_env.py          # to tune, build and run
    python3 scripts/setup_env.py --dev    # to test and change tvm_eff as well

It needs Python and a package index, no root. What was done once is not done
again: when nothing changed, it returns at once. The syntax is that of Python
3.8, so that an old Python can still say what is wrong with it.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import platform
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import NoReturn

CHECKOUT = Path(__file__).resolve().parent.parent
ENVIRONMENT = CHECKOUT / ".venv"
PYTHON = ENVIRONMENT / "bin" / "python"
STATE = ENVIRONMENT / "tvm_eff_setup"
INCOMPLETE = "incomplete"
SUPPORTED = ((3, 10), (3, 11), (3, 12))
MACHINES = {"Linux": ("x86_64", "aarch64"), "Darwin": ("arm64",)}
NEEDED_GIB = 4
# The default index has torch with CUDA for Linux, gigabytes that stay unused here.
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
NETWORK_SIGNS = (
    "NewConnectionError",
    "NameResolutionError",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "MaxRetryError",
    "ProxyError",
    "Connection refused",
    "connection broken",
    "name resolution",
    "Network is unreachable",
)


def main() -> None:
    """Parse the command line, and prepare the environment if it is not ready."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--dev", action="store_true", help="add pytest, ruff and mypy")
    dev = bool(parser.parse_args().dev)
    problem = unsupported_machine(platform.system(), platform.machine(), platform.libc_ver()[0])
    if problem:
        stop(problem)
    use_supported_python()
    with Path(__file__).open(encoding="utf-8") as lock:
        # Two set-ups at once, by a person and by a test, would tread on each other.
        fcntl.flock(lock, fcntl.LOCK_EX)
        prepare(dev)


def unsupported_machine(system: str, machine: str, libc: str) -> str:
    """Return what is wrong with this machine; an empty string if nothing is."""
    if machine not in MACHINES.get(system, ()):
        return (
            f"tvm_eff runs on Linux (x86_64, aarch64) and macOS (arm64); this is {system} on "
            f"{machine}, for which TVM has no packages (on Windows, use WSL)"
        )
    if system == "Linux" and libc != "glibc":
        return (
            "TVM's packages need a Linux with glibc, and this one has another C library "
            "(Alpine?); use Debian or Ubuntu, also in a container"
        )
    return ""


def unsupported_python(version: tuple[int, int], path: str) -> str:
    """Return what is wrong with this Python; an empty string if nothing is."""
    if version in SUPPORTED:
        return ""
    return (
        f"tvm_eff needs Python 3.10, 3.11 or 3.12; {path} is Python {version[0]}.{version[1]}, "
        "and no other was found. Install one of them and run it by its name, such as: "
        "sudo apt-get install python3.11 python3.11-venv && python3.11 scripts/setup_env.py"
    )


def use_supported_python() -> None:
    """Go on in a supported Python of this machine if this one is not."""
    problem = unsupported_python(sys.version_info[:2], sys.executable)
    if not problem:
        return
    for major, minor in reversed(SUPPORTED):
        other = shutil.which(f"python{major}.{minor}")
        # A launcher of that name may be there with no Python behind it.
        if other and succeeds(
            [other, "-c", f"import sys; sys.exit(sys.version_info[1] != {minor})"]
        ):
            say(f"using {other}, since {sys.executable} is not supported")
            os.execv(other, [other, *sys.argv])
    stop(problem)


def prepare(dev: bool) -> None:
    """Make or update the environment; the state that says it is complete comes last."""
    base, requirements = fingerprints()
    state = STATE.read_text(encoding="utf-8").split() if STATE.is_file() else []
    if PYTHON.exists() and state[:2] == [base, requirements] and (not dev or "dev" in state):
        say(f"{ENVIRONMENT} is up to date")
        return
    if ENVIRONMENT.exists() and not STATE.is_file():
        stop(
            f"{ENVIRONMENT} was not made by this script, which would change it; "
            "move it away and run this again"
        )
    started = time.monotonic()
    dev = dev or "dev" in state
    try:
        if state[:1] != [base] or not PYTHON.exists():
            make_environment()
        STATE.write_text(INCOMPLETE, encoding="utf-8")
        install(dev)
        STATE.write_text(f"{base} {requirements}{' dev' if dev else ''}\n", encoding="utf-8")
    except OSError as error:
        stop(f"cannot write {error.filename or ENVIRONMENT}: {error.strerror}")
    say(f"{ENVIRONMENT} is ready after {time.monotonic() - started:.0f} s")


def fingerprints() -> tuple[str, str]:
    """Return hashes of what the environment stands on, and of what is installed in it."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    base = f"{version} {platform.machine()} {Path(sys.base_prefix).resolve()} {CHECKOUT}"
    files = b"".join((CHECKOUT / name).read_bytes() for name in ("setup.py", "pyproject.toml"))
    return hashlib.sha256(base.encode()).hexdigest(), hashlib.sha256(files).hexdigest()


def make_environment() -> None:
    """Make a fresh virtual environment that has pip."""
    free = shutil.disk_usage(CHECKOUT).free / 2**30
    if free < NEEDED_GIB:
        stop(f"{CHECKOUT} has {free:.1f} GiB free; the environment needs {NEEDED_GIB}: make room")
    say(f"making {ENVIRONMENT}")
    # Run by the environment's own Python, this would saw off its branch.
    python = getattr(sys, "_base_executable", sys.executable)
    if ENVIRONMENT.exists():
        shutil.rmtree(ENVIRONMENT)
    ENVIRONMENT.mkdir()
    STATE.write_text(INCOMPLETE, encoding="utf-8")
    make = [python, "-m", "venv", str(ENVIRONMENT)]
    # Debian and Ubuntu keep ensurepip in a package of its own, python3-venv.
    if succeeds([python, "-c", "import ensurepip"]) and succeeds(make):
        return
    if not succeeds([*make, "--without-pip"]):
        stop_for_venv("python3 -m venv fails")
    if not succeeds([python, "-m", "pip", "--python", str(PYTHON), "install", "pip"]):
        bootstrap_pip()


def bootstrap_pip() -> None:
    """Install pip from the package index without having one."""
    index = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/") + "/pip/"
    say(f"fetching pip from {urllib.parse.urlsplit(index).hostname}")
    try:
        url, sha256 = newest_pip(index, fetch(index, 30).decode())
        wheel_bytes = fetch(url, 120)
    except (OSError, ValueError) as error:
        stop_for_venv(f"this Python comes without pip, and {index} does not help ({error})")
    if hashlib.sha256(wheel_bytes).hexdigest() != sha256:
        stop(f"{url} is damaged: its SHA-256 is not {sha256}; run this again")
    with tempfile.TemporaryDirectory() as folder:
        wheel = Path(folder) / url.rpartition("/")[2]
        wheel.write_bytes(wheel_bytes)
        # A wheel is a zip file that Python imports from: pip installs itself.
        command = [str(PYTHON), str(wheel / "pip"), "install", "--no-index", str(wheel)]
        if not succeeds(command):
            stop_for_venv(f"{wheel.name} cannot be installed")


def newest_pip(index: str, page: str) -> tuple[str, str]:
    """Return the address and SHA-256 of the newest pip that a package index lists.

    Raises
    ------
    ValueError
        The page lists none.
    """
    found = re.findall(r'href="([^"]*/?pip-([\d.]+)-py3-none-any\.whl)#sha256=([0-9a-f]{64})', page)
    if not found:
        raise ValueError("it lists no pip")
    link, _, sha256 = max(found, key=lambda each: [int(part) for part in each[1].split(".")])
    return urllib.parse.urljoin(index, link), sha256


def install(dev: bool) -> None:
    """Install the package and what it needs, in place."""
    say("installing tvm_eff and what it needs; about 1 GB to download the first time")
    command = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check"]
    extras = "dev" if dev else "opencl,quantize,study"
    command += ["--retries", "2", "--editable", f"{CHECKOUT}[{extras}]"]
    if platform.system() == "Linux":
        command += torch_options()
    errors = run_pip(command)
    if errors is not None:
        stop(explain(errors))
    say("checking that it imports")
    # In another folder: the checkout itself must not be what makes it importable.
    check = [str(PYTHON), "-c", "import tvm, torch, tvm_eff"]
    if subprocess.run(check, cwd=tempfile.gettempdir(), check=False).returncode != 0:
        stop("the packages are installed but cannot be imported, see above")


def torch_options() -> list[str]:
    """Return the options that make pip take torch without CUDA, if its index answers."""
    try:
        fetch(f"{TORCH_INDEX}/torch/", 5)
    except (OSError, ValueError):
        say(
            f"{TORCH_INDEX} does not answer: torch comes from the usual package index, "
            "where it may be the build with CUDA (several GB)"
        )
        return []
    return ["--extra-index-url", TORCH_INDEX]


def run_pip(command: list[str]) -> str | None:
    """Run pip, showing what it says; return its error output if it fails."""
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace") as pip:
        assert pip.stderr is not None
        errors = []
        for line in pip.stderr:
            errors.append(line)
            sys.stderr.write(line)
    return None if pip.returncode == 0 else "".join(errors)


def explain(errors: str) -> str:
    """Return what to do about a pip that failed with the output `errors`."""
    if "No space left on device" in errors:
        return (
            f"no room on the disk of {ENVIRONMENT} or {tempfile.gettempdir()}: make room, or set "
            "TMPDIR to a folder on a larger disk; then run this again"
        )
    if any(sign in errors for sign in NETWORK_SIGNS):
        return (
            "the package index cannot be reached: check the network (https_proxy, PIP_INDEX_URL), "
            "then run this again; what was downloaded is not downloaded twice"
        )
    return "pip could not install the packages, see above; then run this again"


def fetch(url: str, seconds: float) -> bytes:
    """Return what `url` holds.

    Raises
    ------
    OSError
        It cannot be fetched in that time.
    """
    context = ssl.create_default_context(cafile=os.environ.get("PIP_CERT"))
    with urllib.request.urlopen(url, timeout=seconds, context=context) as answer:
        content: bytes = answer.read()
    return content


def succeeds(command: list[str]) -> bool:
    """Run a command quietly, and return whether it ended well."""
    done = subprocess.run(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
    )
    return done.returncode == 0


def stop_for_venv(reason: str) -> NoReturn:
    """Say how to install what Debian's Python leaves out."""
    stop(f"{reason}; run: sudo apt-get install python3.{sys.version_info[1]}-venv")


def say(text: str) -> None:
    """Show what is happening."""
    print(f"setup_env: {text}", flush=True)


def stop(text: str) -> NoReturn:
    """End with the exit code of a mistake or a lack that the user can mend."""
    print(f"setup_env: error: {text}", file=sys.stderr, flush=True)
    sys.exit(2)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("\nsetup_env: interrupted; run it again to finish", file=sys.stderr)
        sys.exit(130)
