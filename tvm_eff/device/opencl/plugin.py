"""The plug-in's shared library, compiled with the system's g++ when it is first needed.

GNU's compiler it must be: TVM's wheels are linked with GNU's C++ library, and an
exception that crosses from one C++ library into another ends the process.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from tvm_eff import paths
from tvm_eff.errors import BuildError, SetupError, UsageError, nearest
from tvm_eff.targets import architectures
from tvm_eff.targets.detect import usable_cores

# TVM looks for a library of this name by itself.
LIBRARY = "libtvm_runtime_opencl.so"

# What GNU's cross-compilers start with, by what `uname -m` says.
ARCHITECTURES = {each.linux.machine: each.gnu for each in architectures.ARCHITECTURES.values()}

_FLAGS = ("-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden", "-D_FILE_OFFSET_BITS=64")
# Nothing of TVM is linked: the process that loads the library has it.
_LINK_FLAGS = ("-shared", "-s", "-ldl", "-lpthread")


@dataclass(frozen=True)
class _Sources:
    own: Path
    headers: Path
    tvm: Path
    ffi: Path

    @classmethod
    def find(cls) -> _Sources:
        runtime = paths.data_folder("runtime")
        return cls(
            runtime / "opencl", runtime / "cpp" / "include", _package("tvm"), _package("tvm_ffi")
        )

    def units(self) -> list[Path]:
        return sorted(self.own.glob("*.cc"))

    def flags(self) -> list[str]:
        version = metadata.version("apache-tvm")
        return [
            *_FLAGS,
            f'-DTVM_EFF_TVM_VERSION="{version}"',
            *(f"-I{folder}" for folder in (self.own, self.headers)),
            *(f"-isystem{folder / 'include'}" for folder in (self.tvm, self.ffi)),
            # Messages name the file that raised them: not by where this machine keeps it.
            f"-ffile-prefix-map={self.own}=runtime/opencl",
        ]

    def digest(self, arch: str) -> str:
        """Return what tells two libraries apart that would differ."""
        versions = [metadata.version(name) for name in ("apache-tvm", "apache-tvm-ffi")]
        known = hashlib.sha256("\n".join([*versions, arch, *_FLAGS, *_LINK_FLAGS]).encode())
        for path in sorted(_files(self.own, self.headers)):
            known.update(f"\n{path.name}\n".encode())
            known.update(path.read_bytes())
        return known.hexdigest()[:16]


def _files(*folders: Path) -> Iterable[Path]:
    return (path for folder in folders for path in folder.rglob("*") if path.is_file())


def _package(name: str) -> Path:
    """Return the folder of an installed package without importing it."""
    found = util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise SetupError(
            f"the package '{name}' is not installed; run: pip install 'tvm_eff[compile]'"
        )
    return Path(found.submodule_search_locations[0])


def build(arch: str | None = None) -> Path:
    """Return the plug-in's library, made when it is first asked for.

    That takes some ten seconds on two cores; afterwards it lies in the cache.

    Parameters
    ----------
    arch
        One of :data:`ARCHITECTURES`; this machine's if not given.

    Raises
    ------
    UsageError
        The architecture is unknown.
    SetupError
        The compiler or TVM is missing, or the cache cannot be written.
    BuildError
        It does not compile.
    """
    arch = arch or platform.machine()
    if arch not in ARCHITECTURES:
        raise UsageError(f"unknown architecture '{arch}'{nearest(arch, ARCHITECTURES)}")
    sources = _Sources.find()
    with paths.locked_cache_entry(_entry(sources, arch)) as library:
        if not library.is_file():
            _compile(_compiler(arch), sources, library)
        return library


def built() -> Path | None:
    """Return this machine's library if it was made before; nothing is made."""
    arch = platform.machine()
    library = paths.cache_folder() / _entry(_Sources.find(), arch)
    return library if library.is_file() else None


def _entry(sources: _Sources, arch: str) -> str:
    return f"opencl/{arch}-{sources.digest(arch)}/{LIBRARY}"


def _compiler(arch: str) -> str:
    prefix = "" if arch == platform.machine() else f"{ARCHITECTURES[arch]}-"
    name = f"{prefix}g++"
    found = shutil.which(name)
    if found is not None:
        return found
    package = name if not prefix else f"g++-{ARCHITECTURES[arch]}"
    raise SetupError(
        f"the OpenCL plug-in is compiled with {name}, which is not installed; on Debian or "
        f"Ubuntu: sudo apt-get install {package}" + ("; or build it on the board" if prefix else "")
    )


def _compile(compiler: str, sources: _Sources, library: Path) -> None:
    flags = sources.flags()
    with (
        tempfile.TemporaryDirectory(prefix="building-", dir=library.parent) as folder,
        ThreadPoolExecutor(max_workers=usable_cores()) as executor,
    ):
        units = sources.units()
        objects = [Path(folder) / f"{unit.stem}.o" for unit in units]
        jobs = [
            executor.submit(_run, [compiler, *flags, "-c", str(unit), "-o", str(output)])
            for unit, output in zip(units, objects, strict=True)
        ]
        for job in jobs:
            job.result()
        unfinished = Path(folder) / LIBRARY
        _run([compiler, *map(str, objects), *_LINK_FLAGS, "-o", str(unfinished)])
        unfinished.replace(library)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    raise BuildError(
        f"the OpenCL plug-in does not compile with {command[0]}; it needs a C++17 compiler "
        f"(g++ 8 or newer) and the headers of apache-tvm:\n{done.stderr.strip()[-3000:]}"
    )
