"""A bundle: one folder with a network's library, what it is, and how to check it.

``model.so`` is the library, ``manifest.json`` says everything about it, and
``golden.npz`` holds inputs and the outputs PyTorch computed for them, so that a
board can check itself. Loading one needs neither torch nor the tuner::

    model = tvm_eff.load("dist/squeezenet-host")
    model.check()
    y = model(x)
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tvm_eff import paths
from tvm_eff.deploy import _describe, _files, _folder, machine, manifest, measured, signature
from tvm_eff.deploy import _golden as golden_file
from tvm_eff.deploy._golden import Golden
from tvm_eff.deploy.loaded import LoadedBundle
from tvm_eff.deploy.manifest import (
    KernelSchedule,
    Manifest,
    MemoryInfo,
    Runtime,
    Validation,
    WeightInfo,
)
from tvm_eff.deploy.measured import MeasuredCost
from tvm_eff.errors import BundleError

if TYPE_CHECKING:
    from tvm_eff.deploy.bench import Report
    from tvm_eff.deploy.bisect import Bisection
    from tvm_eff.deploy.inspection import Inspection
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
HEADERS = ("tvm_eff.h", "tvm_eff_open.h")
_FILES = (LIBRARY, MANIFEST, GOLDEN, *HEADERS, measured.NAME, signature.NAME)


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

    @property
    def measurement(self) -> MeasuredCost | None:
        """What an inference cost when it was made; None if that is not known.

        Raises
        ------
        BundleError
            The file that says so is damaged.
        """
        return measured.read(self.folder / measured.NAME)

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

    def inspect(self) -> Inspection:
        """Take the bundle apart, whatever machine it is for: sizes, needs, code, weights.

        Raises
        ------
        BundleError
            The library cannot be read.
        SetupError
            What reads libraries is not installed.
        """
        from tvm_eff.deploy.inspection import inspect

        return inspect(self)

    def sign(self, key: str | Path) -> Path:
        """Sign the manifest, and so all files of the bundle, and return the signature's file.

        Parameters
        ----------
        key
            The file of an Ed25519 private key, of OpenSSL or of OpenSSH.

        Raises
        ------
        Error
            As for :func:`tvm_eff.deploy.signature.sign`; or a file is damaged.
        """
        return signature.sign(read(self.folder).folder, key)

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
    weights: Sequence[WeightInfo] = (),
    memory: MemoryInfo | None = None,
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
    weights
        Its constants, if they are known.
    memory
        What it allocates, if it is a native one.

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
        inputs=_describe.tensors(golden.inputs),
        outputs=_describe.tensors(golden.outputs),
        inputs_anywhere=target.gpu is None,
        target=_describe.made_for(target, opencl),
        versions=_describe.versions(),
        files={},
        sizes={},
        validation=validation,
        kernels=kernels or {},
        runtime=runtime,
        weights=tuple(weights),
        memory=memory,
    )
    try:
        with paths.atomic_folder(folder) as part:
            shutil.copyfile(library, part / LIBRARY)
            golden_file.write(part / GOLDEN, golden)
            others = [part / LIBRARY, part / GOLDEN]
            if runtime == "native":
                sources = paths.data_folder("runtime") / "native"
                others += [Path(shutil.copy(sources / name, part)) for name in HEADERS]
            complete = replace(
                described,
                files={each.name: _files.sha256(each) for each in others},
                sizes={each.name: each.stat().st_size for each in others},
            )
            (part / MANIFEST).write_text(complete.text(), encoding="utf-8")
            if measurement is not None:
                measured.write(part / measured.NAME, measurement)
        if archive:
            _files.write_archive(folder, archive_path(folder))
    except OSError as error:
        raise BundleError(
            f"cannot write the bundle {folder}: {error.strerror or error}; check the right to "
            "write there and the room on the disk, then run the same command again"
        ) from error
    return Bundle(folder, complete, report)


def read(folder: str | Path, *, public_key: str | Path | None = None) -> Bundle:
    """Read a bundle and check that its files are complete and undamaged.

    Parameters
    ----------
    folder
        Its folder.
    public_key
        The file of the Ed25519 key whose owner must have signed it; None takes any bundle.

    Raises
    ------
    BundleError
        The folder is no bundle, a file is missing or damaged, the format is unknown, or it is
        not signed by the key's owner.
    UsageError
        The key cannot be read, or is of another kind.
    SetupError
        The library for signatures is not installed.
    """
    folder = _folder.require_bundle(folder)
    described = manifest.read(
        folder / MANIFEST,
        None if public_key is None else partial(signature.verify, folder, public_key=public_key),
    )
    for name in (LIBRARY, GOLDEN, *(each for each in HEADERS if each in described.files)):
        _files.check(folder / name, described)
    return Bundle(folder, described)


def load(
    folder: str | Path, *, refuse_nan: bool = False, public_key: str | Path | None = None
) -> LoadedBundle:
    """Load a bundle on this machine.

    Parameters
    ----------
    folder
        The bundle's folder, made for this machine's kind of processor.
    refuse_nan
        Whether an input with a NaN in it is an error. Maxima and clipping, such as ReLU's,
        make a number of it, where PyTorch's keep it: the outputs look like any others.
    public_key
        The file of the Ed25519 key whose owner must have signed the bundle (see
        :meth:`Bundle.sign`), or nothing of it is loaded.

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
    bundle = read(folder, public_key=public_key)
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


def require_replaceable(folder: Path) -> None:
    """Refuse to replace what no bundle holds; nobody's files are deleted."""
    _folder.require_replaceable(folder, _FILES)
