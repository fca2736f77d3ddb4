"""A bundle: one folder with a network's library, what it is, and how to check it.

``model.so`` is the library, ``manifest.json`` says everything about it, and
``golden.npz`` holds inputs and the outputs PyTorch computed for them, so that a
board can check itself. Loading one needs neither torch nor the tuner::

    model = tvm_eff.load("dist/squeezenet-host")
    model.check()
    y = model(x)
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tvm_eff import __version__, paths
from tvm_eff.deploy import _files, machine, manifest
from tvm_eff.deploy import _golden as golden_file
from tvm_eff.deploy._golden import Golden
from tvm_eff.deploy.loaded import LoadedBundle
from tvm_eff.deploy.manifest import (
    EmulatorInfo,
    KernelSchedule,
    MadeFor,
    Manifest,
    MeasuredCost,
    Runtime,
    TensorInfo,
    Validation,
    Versions,
)
from tvm_eff.errors import BundleError

if TYPE_CHECKING:
    from tvm_eff.codegen.archive import StaticArchive
    from tvm_eff.deploy.bench import Report
    from tvm_eff.deploy.bisect import Bisection
    from tvm_eff.deploy.report import CompileReport
    from tvm_eff.targets import OpenCLRequirements, Target

__all__ = [
    "Bundle",
    "Golden",
    "LoadedBundle",
    "Manifest",
    "MeasuredCost",
    "Validation",
    "archive_path",
    "load",
    "read",
    "write",
]

LIBRARY = "model.so"
MANIFEST = manifest.NAME
GOLDEN = "golden.npz"
RUNNER = _files.RUNNER
_FILES = (LIBRARY, MANIFEST, GOLDEN, _files.SUMS, *_files.NATIVE)


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk whose files are as they were written.

    Attributes
    ----------
    folder
        Its folder.
    manifest
        What it says of itself.
    report
        What the compilation found that wrote it; None for one that was read.
    """

    folder: Path
    manifest: Manifest
    report: CompileReport | None = field(default=None, repr=False, compare=False)

    @property
    def library(self) -> Path:
        """The shared library."""
        return self.folder / LIBRARY

    @property
    def size(self) -> int:
        """The bytes of all files together."""
        present = [self.folder / name for name in _FILES if (self.folder / name).exists()]
        return sum(each.stat().st_size for each in present)

    @property
    def error(self) -> float:
        """The largest error against PyTorch, as a fraction of an output's spread."""
        return self.manifest.validation.largest_error

    def run(self, *inputs: np.ndarray) -> np.ndarray | tuple[np.ndarray, ...]:
        """Run the network on this machine; the library stays loaded.

        Raises
        ------
        BundleError
            The inputs are not what the network takes, or this machine cannot run it.
        """
        return self._loaded(*inputs)

    def check(self) -> float:
        """Run the golden inputs on this machine and return the largest error.

        Raises
        ------
        ValidationError
            It is above the tolerance that the bundle was made with.
        BundleError
            This machine cannot run it.
        """
        return self._loaded.check()

    def benchmark(self, **options: Any) -> Report:
        """Check the golden outputs where the bundle can run, and time an inference there.

        Parameters
        ----------
        options
            Those of :class:`tvm_eff.deploy.bench.Options`: ``rpc``, ``key``, ``emulated``,
            ``threads``, ``repeat``.

        Raises
        ------
        Error
            As for :func:`tvm_eff.deploy.bench.bench`.
        """
        from tvm_eff.deploy.bench import Options, bench

        return bench(Options(self.folder, **options))

    def bisect(self, **options: Any) -> Bisection:
        """Find the first kernel of the library whose result differs from PyTorch's.

        Parameters
        ----------
        options
            Those of :class:`tvm_eff.deploy.bisect.Options`: ``model``, ``on``, ``key``,
            ``weights``, ``preprocess``, ``target``, ``output``.

        Raises
        ------
        Error
            As for :func:`tvm_eff.deploy.bisect.bisect`.
        """
        from tvm_eff.deploy.bisect import Options, bisect

        return bisect(Options(self.folder, **options))

    @cached_property
    def _loaded(self) -> LoadedBundle:
        return load(self.folder)

    def golden(self) -> Golden:
        """Read the golden inputs and outputs.

        Raises
        ------
        BundleError
            They are not what the manifest says.
        """
        return golden_file.read(self.folder / GOLDEN, self.manifest.inputs, self.manifest.outputs)


def write(
    folder: Path,
    library: Path,
    *,
    model: str,
    target: Target,
    golden: Golden,
    validation: Validation,
    measurement: MeasuredCost | None = None,
    opencl: OpenCLRequirements | None = None,
    kernels: Mapping[str, KernelSchedule] | None = None,
    archive: bool = False,
    report: CompileReport | None = None,
    runtime: Runtime = "virtual-machine",
    static: StaticArchive | None = None,
) -> Bundle:
    """Write a bundle; one that is there already is replaced when the new one is complete.

    Parameters
    ----------
    folder
        The bundle's folder.
    library
        The library, built for `target`; it is copied.
    model
        The model's name.
    target
        What the library was built for.
    golden
        The inputs of ``main`` in order, and PyTorch's outputs.
    validation
        How close the library came to PyTorch.
    measurement
        What an inference cost, if it was measured.
    opencl
        What the library needs of a GPU, as :func:`tvm_eff.deploy.library.build_library` says;
        None if `target` is a processor.
    kernels
        What its kernels are scheduled by, by their names as lowered, if that is known.
    archive
        Whether to write :func:`archive_path` beside the folder as well.
    report
        What the compilation found.
    runtime
        What runs the library.
    static
        A native library as a static archive, if it or a program is wanted besides.

    Raises
    ------
    BundleError
        The folder holds something else, or it cannot be written.
    """
    if (target.gpu is None) != (opencl is None):
        raise ValueError(f"what a library needs of a GPU is for {target.name} to say, or not to")
    require_replaceable(folder)
    described = Manifest(
        format=manifest.FORMAT,
        model=model,
        function="main",
        inputs=_infos(golden.inputs),
        outputs=_infos(golden.outputs),
        inputs_anywhere=target.gpu is None,
        target=_made_for(target, opencl),
        versions=_versions(),
        files={},
        sizes={},
        validation=validation,
        measurement=measurement,
        kernels=kernels or {},
        runtime=runtime,
    )
    try:
        with paths.atomic_folder(folder) as part:
            shutil.copyfile(library, part / LIBRARY)
            golden_file.write(part / GOLDEN, golden, validation)
            others = [part / LIBRARY, part / GOLDEN]
            if runtime == "native":
                from tvm_eff.deploy import native_files

                others += native_files.write(part, target, model, part / GOLDEN, static)
            complete = replace(
                described,
                files={each.name: _files.sha256(each) for each in others},
                sizes={each.name: each.stat().st_size for each in others},
            )
            (part / MANIFEST).write_text(complete.text(), encoding="utf-8")
            _files.write_sums(part)
        if archive:
            _files.write_archive(folder, archive_path(folder))
    except OSError as error:
        raise BundleError(
            f"cannot write the bundle {folder}: {error.strerror or error}; check the right to "
            "write there and the room on the disk, then run the same command again"
        ) from error
    return Bundle(folder, complete, report)


def read(folder: str | Path) -> Bundle:
    """Read a bundle and check that its files are complete and undamaged.

    Raises
    ------
    BundleError
        The folder is no bundle, a file is missing or damaged, or the format is unknown.
    """
    if not isinstance(folder, str | os.PathLike):
        raise BundleError(f"the bundle is a {type(folder).__name__}; give the path of its folder")
    folder = Path(folder)
    if _files.is_there(folder) and not folder.is_dir():
        raise BundleError(f"{folder} is a file; give a bundle's folder{_unpack_hint(folder)}")
    if not _files.is_there(folder):
        raise BundleError(
            f"there is no bundle {paths.short(folder)}; check the path{_neighbours(folder)}"
        )
    if not (folder / MANIFEST).exists():
        raise BundleError(
            f"{folder} is not a bundle: it has no {MANIFEST}; give the folder that "
            f"a compilation wrote{_neighbours(folder / MANIFEST)}"
        )
    described = manifest.read(folder / MANIFEST)
    for name in (LIBRARY, GOLDEN, *(n for n in _files.NATIVE if n in described.files)):
        _files.check(folder / name, described)
    return Bundle(folder, described)


def load(folder: str | Path, *, refuse_nan: bool = False) -> LoadedBundle:
    """Load a bundle on this machine.

    Parameters
    ----------
    folder
        The bundle's folder, made for this machine's kind of processor.
    refuse_nan
        Whether an input with a NaN in it is an error. Maxima and clipping, such as ReLU's,
        make a number of it, where PyTorch's keep it: the outputs look like any others.

    Returns
    -------
    LoadedBundle
        Called with numpy arrays, it returns what the network computes.

    Raises
    ------
    BundleError
        The bundle is incomplete or damaged, or this machine or its GPU cannot run it.
    DeviceError, SetupError, BuildError
        It runs on a GPU, and this machine has no OpenCL driver or cannot use it.
    """
    bundle = read(folder)
    made_for = bundle.manifest.target
    reason = machine.incompatibility(made_for)
    if reason is not None:
        raise BundleError(
            f"{folder} was made for {made_for.name} ({made_for.arch}); {reason}; run it on the "
            f"board, or from here with: python scripts/bench.py {folder} --rpc HOST:PORT"
        )
    golden = bundle.golden()
    return LoadedBundle(
        bundle.library,
        bundle.manifest,
        tuple(golden.inputs.values()),
        tuple(golden.outputs.values()),
        refuse_nan=refuse_nan,
    )


def archive_path(folder: Path) -> Path:
    """Return where the archive of the bundle `folder` is written."""
    return folder.with_name(folder.name + ".tar.gz")


def _infos(arrays: Mapping[str, np.ndarray]) -> tuple[TensorInfo, ...]:
    return tuple(TensorInfo(name, a.shape, str(a.dtype)) for name, a in arrays.items())


def _made_for(target: Target, opencl: OpenCLRequirements | None) -> MadeFor:
    emulator = target.emulator
    return MadeFor(
        name=target.name,
        log_name=target.log_name,
        is_host=target.is_host,
        tvm=target.tvm,
        cpu_features=machine.needed_features(target),
        triple=target.toolchain.triple,
        glibc=target.toolchain.glibc,
        emulator=None if emulator is None else EmulatorInfo(emulator.arch, emulator.cpu),
        opencl=opencl,
    )


def _versions() -> Versions:
    packages = ("apache-tvm", "apache-tvm-ffi", "torch")
    return Versions(__version__, *(metadata.version(package) for package in packages))


def require_replaceable(folder: Path) -> None:
    """Refuse to replace what no bundle holds; nobody's files are deleted."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise BundleError(f"{folder} is a file; write the bundle elsewhere, or move it away")
    foreign = sorted(path.name for path in folder.iterdir() if path.name not in _FILES)
    if foreign:
        raise BundleError(
            f"{folder} holds '{foreign[0]}', which is no part of a bundle and would be lost; "
            "move it away, or write the bundle elsewhere"
        )


def _unpack_hint(path: Path) -> str:
    return f" (unpack it first: tar xf {path})" if path.name.endswith((".tar.gz", ".tgz")) else ""


def _neighbours(missing: Path) -> str:
    """Return a hint that names the bundles beside a path that is not one."""
    beside = missing.parent
    found = sorted(p.parent.name for p in beside.glob(f"*/{MANIFEST}")) if beside.is_dir() else []
    return f"; bundles in {beside}: {', '.join(found[:8])}" if found else ""
