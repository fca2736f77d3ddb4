"""An emulated board with Python and the engines' wheels, made once in the cache folder."""

from __future__ import annotations

import hashlib
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tvm_eff import paths
from tvm_eff.device import emulator_image
from tvm_eff.errors import SetupError

ARCH = "aarch64"
REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements-arm.txt"

_PYTHON = "usr/bin/python3.11"
_PACKAGES = ("python3.11", "libstdc++6", "libgomp1", "zlib1g")
# What pip asks of a wheel for the board: its Python is the root's, its C library 2.36.
_WHEELS = ("--python-version", "3.11", "--implementation", "cp", "--only-binary", ":all:")
_PLATFORMS = ("2_28", "2_27", "2_17")

# Engines choose their kernels by what Linux says of the processor, and qemu shows this machine's.
_CORE = """\
processor\t: {core}
BogoMIPS\t: 108.00
Features\t: {features}
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: {variant}
CPU part\t: {part}
CPU revision\t: {revision}

"""
_CORES = 4


@dataclass(frozen=True)
class _Processor:
    """What Linux says of a board's processor."""

    features: str
    part: str
    variant: str
    revision: int
    board: str


_PROCESSORS = {
    "cortex-a72": _Processor(
        features="fp asimd evtstrm crc32 cpuid",
        part="0xd08",
        variant="0x0",
        revision=3,
        board="Hardware\t: BCM2835\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n",
    ),
    "cortex-a76": _Processor(
        features="fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm "
        "lrcpc dcpop asimddp",
        part="0xd0b",
        variant="0x4",
        revision=1,
        board="Model\t\t: Raspberry Pi 5 Model B Rev 1.0\n",
    ),
}
CPUS = tuple(_PROCESSORS)
"""The processors that a board may have, by qemu's names."""


@dataclass(frozen=True)
class Board:
    """An emulated board that runs Python.

    Attributes
    ----------
    root
        The guest's root folder.
    packages
        The folders that Python imports from.
    cpu
        qemu's name of its processor.
    """

    root: Path
    packages: tuple[Path, ...]
    cpu: str

    def python(self, folder: Path, plugin: str | None) -> Path:
        """Write an executable into `folder` that is the board's Python, and return it.

        The guest sees nothing of this machine's environment: engines call home, run
        pip and read their settings from there.

        Parameters
        ----------
        folder
            An empty folder of its own, which becomes its home.
        plugin
            The value of qemu's ``-plugin``, if it is to have one.
        """
        imported = ":".join(map(str, self.packages))
        command = ["env", "-i", f"HOME={folder}", "PATH=/nonexistent", f"PYTHONPATH={imported}"]
        command += ["OMP_NUM_THREADS=1"]
        command += map(str, emulator_image.emulator_command(ARCH, self.root))
        command += ["-cpu", self.cpu, *(["-plugin", plugin] if plugin is not None else [])]
        # -S: without this machine's site-packages, which its guest would find too.
        command += [str(self.root / _PYTHON), "-S"]
        path = folder / "python"
        path.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        path.chmod(0o755)
        return path


def board(pip_python: Path, cpu: str, requirements: Path = REQUIREMENTS) -> Board:
    """Return the emulated board, made if need be.

    Parameters
    ----------
    pip_python
        A Python that has pip, which fetches the wheels.
    cpu
        One of :data:`CPUS`.
    requirements
        The list of the wheels.

    Raises
    ------
    SetupError
        A package cannot be fetched, or this machine cannot emulate.
    """
    root = emulator_image.guest_image(
        f"root-arm64-python3.11-{cpu.removeprefix('cortex-')}",
        _PACKAGES,
        ARCH,
        [_PYTHON, "proc/cpuinfo"],
        lambda folder: _describe(_PROCESSORS[cpu], folder),
    )
    return Board(root.path, (_wheels(pip_python, requirements),), cpu)


def _describe(processor: _Processor, root: Path) -> None:
    (root / "proc").mkdir(exist_ok=True)
    cores = "".join(_CORE.format(core=core, **vars(processor)) for core in range(_CORES))
    (root / "proc/cpuinfo").write_text(cores + processor.board)
    folder = root / "sys/devices/system/cpu"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("possible", "present", "online"):
        (folder / name).write_text(f"0-{_CORES - 1}\n")


def _wheels(pip_python: Path, requirements: Path) -> Path:
    """Return the folder of unpacked wheels, one for every content of the list."""
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:16]
    with paths.locked_cache_entry(f"benchmarks/wheels-{ARCH}-{digest}") as path:
        if path.is_dir():
            return path
        unfinished = path.with_name(f"unfinished-{path.name}")
        shutil.rmtree(unfinished, ignore_errors=True)
        platforms = [f"--platform=manylinux_{glibc}_{ARCH}" for glibc in _PLATFORMS]
        command: list[str | Path] = [pip_python, "-m", "pip", "install", "--no-deps", "--quiet"]
        command += [*_WHEELS, *platforms, "--target", unfinished, "-r", requirements]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise SetupError(
                f"cannot fetch the wheels of {requirements.name} for the emulated board; check "
                f"the network, and that {pip_python} has pip:\n{done.stderr.strip()[-1000:]}"
            )
        unfinished.rename(path)
        return path
