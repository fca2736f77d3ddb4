"""Writing a bundle: whole, or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_eff import paths
from tvm_eff.deploy import _describe, _files, _folder, bundle, manifest, measured
from tvm_eff.deploy import _golden as golden_file
from tvm_eff.deploy._golden import Golden
from tvm_eff.deploy.bundle import Bundle
from tvm_eff.deploy.manifest import (
    KernelSchedule,
    Manifest,
    MemoryInfo,
    Validation,
    WeightInfo,
)
from tvm_eff.deploy.measured import MeasuredCost
from tvm_eff.errors import BundleError

if TYPE_CHECKING:
    from tvm_eff.codegen.archive import StaticArchive
    from tvm_eff.deploy.native.plan import Plan
    from tvm_eff.deploy.report import CompileReport
    from tvm_eff.targets import OpenCLRequirements, Target


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
    plan: Plan | None = None,
    static: StaticArchive | None = None,
    weights: Sequence[WeightInfo] = (),
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
    plan
        What a native library does; None if TVM's virtual machine runs the library.
    static
        A native library as a static archive, if it or a program is wanted besides.
    weights
        Its constants, if they are known.

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
        runtime="virtual-machine" if plan is None else "native",
        weights=tuple(weights),
        memory=None if plan is None else MemoryInfo(plan.arena_bytes, plan.live_bytes),
    )
    try:
        with paths.atomic_folder(folder) as part:
            shutil.copyfile(library, part / bundle.LIBRARY)
            golden_file.write(part / bundle.GOLDEN, golden, validation)
            others = [part / bundle.LIBRARY, part / bundle.GOLDEN]
            if plan is not None:
                from tvm_eff.deploy.native import files as native_files

                others += native_files.write(
                    part, target, model, part / bundle.GOLDEN, plan, static
                )
            complete = replace(
                described,
                files={each.name: _files.sha256(each) for each in others},
                sizes={each.name: each.stat().st_size for each in others},
            )
            (part / bundle.MANIFEST).write_text(complete.text(), encoding="utf-8")
            _files.write_sums(part)
            # What was measured is another thing each time: it has no checksum.
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


def archive_path(folder: Path) -> Path:
    """Return where the archive of the bundle `folder` is written."""
    return folder.with_name(folder.name + ".tar.gz")


def require_replaceable(folder: Path) -> None:
    """Refuse to replace what no bundle holds; nobody's files are deleted."""
    _folder.require_replaceable(folder, bundle.FILES)
