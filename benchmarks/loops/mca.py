"""llvm-mca: how many cycles a processor's scheduling model gives a loop, and what bounds it."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvm_eff.device import emulator_image
from tvm_eff.errors import BuildError

_RELEASE = "19"  # of those in Debian's bookworm; 16 has Cortex-A57's model serve the A76 too
_PROGRAM = f"usr/lib/llvm-{_RELEASE}/bin/llvm-mca"
_ITERATIONS = 200
_CLOSE = 1.05

# What the units of LLVM's model do; that of Cortex-A57 serves the A72 too.
_UNITS = {
    "A57UnitB": "branches",
    "A57UnitI": "integers",
    "A57UnitL": "loads",
    "A57UnitM": "multi-cycle integers",
    "A57UnitS": "stores",
    "A57UnitW": "vectors",
    "A57UnitX": "vectors",
    **{f"N1Unit{name}": "vectors" for name in ("V", "V0", "V1")},
    **{f"N1Unit{name}": "loads and stores" for name in ("L", "L01")},
    **{f"N1Unit{name}": "integers" for name in ("I", "S", "M", "M0")},
    "N1UnitB": "branches",
}

# A model of the same core where LLVM has none of a processor.
_SAME_CORE = {"cortex-a76": "neoverse-n1"}


@dataclass(frozen=True)
class Cycles:
    """What a loop takes.

    Attributes
    ----------
    iteration
        Cycles an iteration, loads hitting the first cache.
    bound
        What it is bound by.
    busy
        The busiest unit's cycles an iteration.
    dispatch
        Cycles an iteration that issuing its micro-operations takes.
    """

    iteration: float
    bound: str
    busy: float
    dispatch: float


@functools.cache
def _image() -> emulator_image.Image:
    """Return the folder of Debian's package, unpacked if need be."""
    here = emulator_image.host()
    return emulator_image.guest_image(
        f"llvm-mca-{_RELEASE}-{here.debian}",
        [f"llvm-{_RELEASE}"],
        here.name,
        [_PROGRAM, f"lib/{here.gnu}/libc.so.6"],
        _drop_other_programs,
    )


def _command() -> tuple[str, ...]:
    """Return the start of the command line: the program with its own loader and libraries."""
    here, image = emulator_image.host(), _image().path
    libraries = [image / part / here.gnu for part in ("lib", "usr/lib")]
    return (
        *(str(image / "lib" / here.gnu / here.loader), "--inhibit-cache", "--library-path"),
        *(":".join(map(str, libraries)), str(image / _PROGRAM)),
    )


def version() -> str:
    """Return its name and version."""
    found = _image().versions[f"llvm-{_RELEASE}"]
    return f"llvm-mca {found.split(':')[-1].split('-')[0]}"


def analyze(body: Sequence[str], triple: str, cpu: str) -> Cycles:
    """Return what a loop takes by LLVM's scheduling model of a processor.

    Raises
    ------
    SetupError
        llvm-mca cannot be fetched.
    BuildError
        It does not understand the loop.
    """
    model = _SAME_CORE.get(cpu, cpu)
    options = [f"-mtriple={triple}", f"-mcpu={model}", f"-iterations={_ITERATIONS}", "-json"]
    done = subprocess.run(
        [*_command(), *options], input="\n".join(body), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise BuildError(f"llvm-mca cannot read a loop for {cpu}: {done.stderr.strip()[-500:]}")
    answer = json.loads(done.stdout)
    return _cycles(answer["CodeRegions"][0], answer["TargetInfo"]["Resources"])


def _cycles(region: dict[str, Any], resources: Sequence[str]) -> Cycles:
    summary = region["SummaryView"]
    iteration = summary["TotalCycles"] / summary["Iterations"]
    dispatch = summary["TotaluOps"] / summary["Iterations"] / summary["DispatchWidth"]
    # The entry behind the last instruction is the sum of all.
    total = len(region["Instructions"])
    usage = {
        resources[entry["ResourceIndex"]].split(".")[0]: float(entry["ResourceUsage"])
        for entry in region["ResourcePressureView"]["ResourcePressureInfo"]
        if entry["InstructionIndex"] == total
    }
    unit = max(usage, key=lambda name: usage[name])
    busy = usage[unit]
    if iteration > _CLOSE * max(busy, dispatch):
        bound = "latency"
    else:
        bound = _UNITS.get(unit, unit) if busy >= dispatch else "dispatch"
    return Cycles(round(iteration, 2), bound, round(busy, 2), round(dispatch, 2))


def _drop_other_programs(folder: Path) -> None:
    for program in (folder / f"usr/lib/llvm-{_RELEASE}/bin").iterdir():
        if program.name != Path(_PROGRAM).name:
            program.unlink()
    shutil.rmtree(folder / "usr/bin", ignore_errors=True)
