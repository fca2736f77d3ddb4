"""TVM's RPC server as one executable for a board, compiled from the sources in TVM's wheels.

The board needs neither Python nor TVM, only its C library. To make one by hand::

    tvm-eff board-server --arch aarch64 --output tvm_eff_server
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from importlib import metadata, util
from itertools import chain
from pathlib import Path

from tvm_eff import paths
from tvm_eff.codegen import toolchain
from tvm_eff.errors import SetupError, UsageError, nearest
from tvm_eff.targets import architectures

OLDEST_GLIBC = "2.31"

# zig's triples by the names that targets use, and by what `uname -m` says on a board.
ARCHITECTURES = {
    name: each.linux.zig
    for each in architectures.ARCHITECTURES.values()
    for name in (each.name, each.linux.machine)
}

Progress = Callable[[int, int], None]

_FLAGS = (
    *("-std=c++17", "-DNDEBUG"),
    # Only what TVM marks as its interface is for the libraries that the server loads.
    *("-fvisibility=hidden", "-ffunction-sections", "-fdata-sections"),
    # 32-bit boards also have files whose numbers need 64 bits.
    "-D_FILE_OFFSET_BITS=64",
    *("-DTVM_FFI_EXPORTS", "-DTVM_FFI_USE_LIBBACKTRACE=0", "-DTVM_FFI_BACKTRACE_ON_SEGFAULT=0"),
)
_OPTIMIZED, _AS_WRITTEN = "-O2", "-O0"
_LINK_FLAGS = ("-rdynamic", "-s", "-Wl,--gc-sections", "-lm", "-ldl", "-lpthread")


@dataclass(frozen=True)
class _Sources:
    """Where everything that is compiled lies."""

    own: Path
    opencl: Path
    tvm: Path
    ffi: Path

    @classmethod
    def find(cls) -> _Sources:
        runtime = paths.data_folder("runtime")
        return cls(runtime / "cpp", runtime / "opencl", _package("tvm"), _package("tvm_ffi"))

    def units(self) -> dict[str, list[Path]]:
        """Return the files to compile, by how they are optimized."""
        lines = (self.own / "sources.txt").read_text().splitlines()
        packages = {"tvm": self.tvm, "tvm_ffi": self.ffi}
        level = _OPTIMIZED
        units = {level: [*sorted(self.own.glob("*.cc")), *sorted(self.opencl.glob("*.cc"))]}
        for line in lines:
            if line.startswith("-"):
                level = line
            elif not line.startswith("#"):
                package, _, path = line.partition("/")
                units.setdefault(level, []).append(packages[package] / path)
        files = chain.from_iterable(units.values())
        missing = next((path for path in files if not path.is_file()), None)
        if missing is None:
            return units
        raise SetupError(
            f"the source file {missing} is missing, which the server for boards is made of; "
            "install the packages again: pip install --force-reinstall --no-deps "
            "apache-tvm==0.27.0.post1 apache-tvm-ffi==0.1.14.post1"
        )

    def include_flags(self) -> list[str]:
        own = self.own / "include"
        # The wheel's sources ask for "../support/..." and "../../support/...", which is not in
        # the wheel. Seen from the second and third folder these lead to our own.
        folders = (own, own / "support", own / "tvm" / "support", self.own)
        theirs = (self.tvm / "include", self.tvm / "src", self.ffi / "include")
        # Messages name the file that raised them: not by where this machine keeps it.
        renamed = {self.own: "runtime/cpp", self.tvm: "tvm", self.ffi: "tvm_ffi"}
        renamed[self.opencl] = "runtime/opencl"
        return [
            f'-DTVM_EFF_TVM_VERSION="{metadata.version("apache-tvm")}"',
            *(f"-I{folder}" for folder in folders),
            *(f"-isystem{path}" for path in theirs),
            *(f"-ffile-prefix-map={path}={name}" for path, name in renamed.items()),
        ]

    def own_files(self) -> list[Path]:
        folders = (self.own, self.opencl)
        return sorted(path for each in folders for path in each.rglob("*") if path.is_file())


def _package(name: str) -> Path:
    """Return the folder of an installed package without importing it."""
    found = util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise SetupError(
            f"the package '{name}' is not installed; run: pip install 'tvm_eff[compile]'"
        )
    return Path(found.submodule_search_locations[0])


def _triple(arch: str, glibc: str) -> str:
    if arch not in ARCHITECTURES:
        raise UsageError(f"unknown architecture '{arch}'{nearest(arch, ARCHITECTURES)}")
    if not re.fullmatch(r"2\.\d{1,2}", glibc):
        raise UsageError(f"'{glibc}' is not a version of glibc, such as {OLDEST_GLIBC}")
    return f"{ARCHITECTURES[arch]}.{glibc}"


def _digest(sources: _Sources, triple: str) -> str:
    """Return what tells two servers apart that would differ."""
    known = hashlib.sha256()
    versions = [metadata.version(name) for name in ("apache-tvm", "apache-tvm-ffi", "ziglang")]
    flags = [_OPTIMIZED, _AS_WRITTEN, *_FLAGS, *_LINK_FLAGS]
    known.update("\n".join([*versions, triple, *flags]).encode())
    for path in sources.own_files():
        known.update(f"\n{path.relative_to(sources.own.parent)}\n".encode())
        known.update(path.read_bytes())
    return known.hexdigest()[:16]


def build(arch: str, *, glibc: str = OLDEST_GLIBC, on_progress: Progress | None = None) -> Path:
    """Return the server's executable for an architecture, made when it is first asked for.

    That takes one to three minutes on two cores; afterwards it lies in the cache.

    Parameters
    ----------
    arch
        One of :data:`ARCHITECTURES`.
    glibc
        The oldest C library that it must run with.
    on_progress
        Called with how many parts are compiled and how many there are.

    Raises
    ------
    UsageError
        The architecture or the version is unknown.
    SetupError
        A package it is made from is missing or incomplete, or the cache cannot be written.
    BuildError
        A file does not compile.
    """
    triple = _triple(arch, glibc)
    sources = _Sources.find()
    units = sources.units()
    entry = f"native_server/tvm_eff_server-{triple}-{_digest(sources, triple)}"
    with paths.locked_cache_entry(entry) as executable:
        if executable.is_file():
            return executable
        with tempfile.TemporaryDirectory(prefix="building-", dir=executable.parent) as folder:
            unfinished = Path(folder) / "tvm_eff_server"
            command = ["c++", "-target", triple]
            objects = _compile(command, sources, units, Path(folder), on_progress)
            toolchain.run([*command, *objects, *_LINK_FLAGS, "-o", unfinished])
            unfinished.chmod(0o755)
            unfinished.replace(executable)
        return executable


def _compile(
    command: Sequence[str],
    sources: _Sources,
    units: Mapping[str, Sequence[Path]],
    folder: Path,
    on_progress: Progress | None,
) -> list[Path]:
    """Compile all files over all cores and return the objects."""
    flags = [*_FLAGS, *sources.include_flags()]
    # In the order of linking: of an inline function that both have, the linker takes the first.
    joint = {level: _together(units[level], folder / f"unit{level}.cc") for level in units}
    executor = ThreadPoolExecutor(max_workers=os.cpu_count() or 1)
    try:
        jobs = [executor.submit(_link_nothing, command, folder)]
        for level, path in joint.items():
            output = path.with_suffix(".o")
            compile_one: list[str | Path] = [*command, level, *flags, "-c", path, "-o", output]
            jobs.append(executor.submit(toolchain.run, compile_one))
        for done, job in enumerate(as_completed(jobs)):
            job.result()
            if on_progress is not None:
                on_progress(done, len(joint))
    finally:
        executor.shutdown(cancel_futures=True)
    return [path.with_suffix(".o") for path in joint.values()]


def _together(units: Sequence[Path], path: Path) -> Path:
    """Write a file that includes all: most of the time goes into the headers they share.

    More than one of a level would not be ready before zig's C++ library, which takes longer.
    """
    path.write_text("".join(f'#include "{unit}"\n' for unit in units))
    return path


def _link_nothing(command: Sequence[str], folder: Path) -> None:
    """Link an empty program: zig compiles its C++ library at the first link, on one core."""
    source = folder / "nothing.cc"
    source.write_text("int main() {}\n")
    toolchain.run([*command, source, *_LINK_FLAGS, "-o", folder / "nothing"])
