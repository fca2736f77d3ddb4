"""``doctor``: what this machine has of all that tvm_eff can use."""

from __future__ import annotations

import argparse
import json
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata

from tvm_eff.cli.run import run
from tvm_eff.device import opencl
from tvm_eff.device.opencl import OpenCLDevice
from tvm_eff.errors import Error

_PACKAGES = ("apache-tvm", "apache-tvm-ffi", "torch", "numpy", "ziglang")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    part
        What it belongs to.
    what
        Its name.
    found
        Its version or value, or what is wrong with it and what to do.
    state
        ``ok``, ``missing`` if only some things work without it, or ``wrong``.
    """

    part: str
    what: str
    found: str
    state: str = "ok"


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return run(_main, argv)


def _main(argv: list[str] | None) -> int:
    parser = argparse.ArgumentParser(
        prog="tvm-eff doctor",
        description="Show what this machine has: packages, linker, emulator, and OpenCL devices "
        "with their limits. The exit code is 1 if something is wrong.",
    )
    parser.add_argument("--json", action="store_true", help="print all as JSON")
    arguments = parser.parse_args(argv)
    findings = [finding for look in _LOOKS for finding in look()]
    if arguments.json:
        print(json.dumps([asdict(finding) for finding in findings]))
    else:
        _print(findings)
    return int(any(finding.state == "wrong" for finding in findings))


def _system() -> Iterator[Finding]:
    yield Finding("system", "machine", f"{platform.system()} {platform.machine()}")
    yield Finding("system", "Python", f"{platform.python_version()} ({sys.executable})")


def _packages() -> Iterator[Finding]:
    pinned = _pinned()
    for name in _PACKAGES:
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            told = f"not installed: pip install {name}=={pinned.get(name, '')}".rstrip("=")
            yield Finding("packages", name, told, "wrong")
            continue
        # The plus sign starts what a builder adds, such as torch's +cpu.
        if name in pinned and version.partition("+")[0] != pinned[name]:
            told = (
                f"{version}, but tvm_eff needs {pinned[name]}: pip install {name}=={pinned[name]}"
            )
            yield Finding("packages", name, told, "wrong")
            continue
        yield Finding("packages", name, version)


def _pinned() -> dict[str, str]:
    """Return the versions that tvm_eff asks for."""
    found = (re.match(r"([\w.-]+)==([\w.]+)", text) for text in metadata.requires("tvm_eff") or [])
    return {match[1]: match[2] for match in found if match}


def _tools() -> Iterator[Finding]:
    yield _checked("tools", "linker (zig)", _zig, "wrong")
    yield _checked("tools", "g++", _gxx, "missing")
    yield _checked("tools", "emulator (qemu)", _qemu, "missing")


def _zig() -> str:
    from tvm_eff.codegen import toolchain

    return f"{_first_line([str(toolchain.zig()), 'version'])} ({toolchain.zig()})"


def _gxx() -> str:
    compiler = shutil.which("g++")
    if compiler is None:
        raise Error("not installed; OpenCL's plug-in is built with it: sudo apt-get install g++")
    return f"{_first_line([compiler, '-dumpfullversion'])} ({compiler})"


def _qemu() -> str:
    from tvm_eff import paths
    from tvm_eff.device import emulator_image

    emulator_image.host()
    made = sorted(paths.cache_folder().glob("emulator/*/usr/bin/qemu-aarch64"))
    if made:
        return str(made[-1])
    lacking = [tool for tool in ("apt-get", "dpkg-deb") if shutil.which(tool) is None]
    if lacking:
        raise Error(f"it is fetched with {' and '.join(lacking)}, which this system lacks")
    return "not fetched yet; that is done when an emulated board is first used"


def _first_line(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode != 0:
        raise Error(f"{command[0]} does not run: {done.stderr.strip()[-300:]}")
    return done.stdout.partition("\n")[0].strip()


def _checked(part: str, what: str, look: Callable[[], str], otherwise: str) -> Finding:
    try:
        return Finding(part, what, look())
    except (Error, OSError) as error:
        return Finding(part, what, str(error), otherwise)


def _opencl() -> Iterator[Finding]:
    plugin = _checked("OpenCL", "plug-in", lambda: str(opencl.load()), "missing")
    yield plugin
    if plugin.state != "ok":
        return
    try:
        devices = opencl.devices()
    except Error as error:
        yield Finding("OpenCL", "driver", str(error), "missing")
        return
    for number, device in enumerate(devices):
        yield from _device(f"opencl:{number}", device, opencl.trouble(number))


def _device(part: str, device: OpenCLDevice, trouble: str) -> Iterator[Finding]:
    yield Finding(part, "device", f"{device.name}{' (in software)' if device.is_cpu else ''}")
    yield Finding(part, "platform", f"{device.platform}, {device.version}")
    yield Finding(part, "driver", f"{device.driver_version} ({device.library})")
    yield Finding(part, "work-group", f"{device.work_group} work-items")
    yield Finding(part, "local memory", _size(device.local_memory))
    yield Finding(part, "memory", _size(device.global_memory))
    yield Finding(part, "one allocation", _size(device.allocation))
    clock = f" at {device.clock_mhz} MHz" if device.clock_mhz else ""
    yield Finding(part, "compute units", f"{device.compute_units}{clock}")
    yield Finding(part, "float16", "yes" if device.has_float16 else "no")
    yield Finding(part, "compiler", trouble or "works", "wrong" if trouble else "ok")


def _size(count: int) -> str:
    return f"{count / 2**20:,.0f} MiB" if count >= 1 << 20 else f"{count / 2**10:g} KiB"


_LOOKS = (_system, _packages, _tools, _opencl)


def _print(findings: list[Finding]) -> None:
    width = max(len(finding.what) for finding in findings)
    part = ""
    for finding in findings:
        if finding.part != part:
            part = finding.part
            print(part)
        mark = {"ok": " ", "missing": "-", "wrong": "!"}[finding.state]
        indented = finding.found.replace("\n", "\n" + " " * (width + 5))
        print(f" {mark} {finding.what:{width}}  {indented}")


if __name__ == "__main__":
    sys.exit(main())
