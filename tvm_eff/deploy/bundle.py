"""A bundle: one folder with a network's library, what it is, and how to check it.

``model.so`` is the library, ``manifest.json`` says everything about it, and
``golden.npz`` holds inputs and the outputs PyTorch computed for them, so that a
board can check itself. Loading one needs neither torch nor the tuner::

    model = tvm_eff.load("dist/squeezenet-host")
    model.check()
    y = model(x)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tvm_eff.deploy import _files, _folder, machine, manifest, measured, signature
from tvm_eff.deploy import _golden as golden_file
from tvm_eff.deploy._golden import Golden
from tvm_eff.deploy.loaded import LoadedBundle
from tvm_eff.deploy.manifest import (
    Manifest,
    Validation,
)
from tvm_eff.deploy.measured import MeasuredCost
from tvm_eff.errors import BundleError, NoneType, require_kind, require_positive

if TYPE_CHECKING:
    from tvm_eff.deploy.bench import Report
    from tvm_eff.deploy.bisect import Bisection
    from tvm_eff.deploy.inspection import Inspection
    from tvm_eff.deploy.report import CompileReport

__all__ = [
    "Bundle",
    "Golden",
    "LoadedBundle",
    "Manifest",
    "MeasuredCost",
    "Validation",
    "load",
    "read",
]

LIBRARY = "model.so"
MANIFEST = manifest.NAME
GOLDEN = "golden.npz"
RUNNER = _files.RUNNER
PLAN = _files.PLAN
_UNSIGNED = (MANIFEST, _files.SUMS, measured.NAME, signature.NAME)
FILES = (LIBRARY, GOLDEN, *_UNSIGNED, *_files.NATIVE)
"""All that a bundle may hold."""


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
        present = [self.folder / name for name in FILES if (self.folder / name).exists()]
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
            ``weights``, ``preprocess``, ``state``, ``calibrate``, ``target``, ``output``.

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
    for name in dict.fromkeys((LIBRARY, GOLDEN, *described.files)):
        if name not in FILES:
            raise BundleError(
                f"{folder / MANIFEST} names '{name}', which is no part of a bundle; build it again"
            )
        _files.check(folder / name, described)
    return Bundle(folder, described)


def load(
    folder: str | Path,
    *,
    threads: int | None = None,
    cores: Sequence[int] = (),
    refuse_nan: bool = False,
    public_key: str | Path | None = None,
) -> LoadedBundle:
    """Load a bundle on this machine.

    Parameters
    ----------
    folder
        The bundle's folder, made for this machine's kind of processor.
    threads
        How many threads a native library uses; by default one for each core that this process may
        use, which is also the most.
    cores
        The numbers of the cores that its threads run on, but for the caller's own; by default any.
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
    UsageError
        There are not as many cores, or TVM's virtual machine runs the library.
    DeviceError, SetupError, BuildError
        It runs on a GPU, and this machine has no OpenCL driver or cannot use it.
    """
    require_kind("threads", threads, Integral, NoneType)
    for each in cores:
        require_kind("each of cores", each, Integral)
    require_positive(threads=threads)
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
        threads=threads,
        cores=tuple(cores),
        refuse_nan=refuse_nan,
    )
