"""What a bundle holds beside a native library, for users without Python."""

from __future__ import annotations

import shutil
from pathlib import Path

from tvm_eff import paths
from tvm_eff.codegen import runner
from tvm_eff.codegen.archive import StaticArchive, identifier
from tvm_eff.deploy import manifest
from tvm_eff.deploy._files import ARCHIVE, CMAKE, EXECUTABLE, HEADERS, PLAN, RUNNER
from tvm_eff.deploy.native import plan_file
from tvm_eff.deploy.native.plan import Plan
from tvm_eff.targets import Target


def write(
    folder: Path,
    target: Target,
    model: str,
    golden: Path,
    plan: Plan,
    archive: StaticArchive | None = None,
) -> list[Path]:
    """Write the headers, a package for CMake, the runner, and what is made of an archive.

    Parameters
    ----------
    folder
        The bundle's folder.
    target
        What the library is for.
    model
        The model's name.
    golden
        The file of golden inputs and outputs.
    plan
        What the library does.
    archive
        The library as an archive, if it or a program is wanted besides the shared library.

    Returns
    -------
    list
        The files.

    Raises
    ------
    BuildError
        A compiler or linker fails.
    """
    sources = paths.data_folder("runtime") / "native"
    files = [Path(shutil.copy(sources / name, folder)) for name in HEADERS]
    plan_file.write(plan, folder / PLAN)
    files.append(folder / PLAN)
    if runner.runs_on(target):
        runner.build_runner(target, manifest.FORMAT, folder / RUNNER)
        files.append(folder / RUNNER)
    if archive is not None and archive.form == "a":
        files.append(Path(shutil.copyfile(archive.path, folder / ARCHIVE)))
    if archive is not None and archive.form == "exe":
        runner.build_executable(archive, golden, target, folder / EXECUTABLE)
        files.append(folder / EXECUTABLE)
    (folder / CMAKE).write_text(
        _cmake_package(model, (folder / ARCHIVE).exists()), encoding="utf-8"
    )
    return [*files, folder / CMAKE]


def _cmake_package(model: str, is_archived: bool) -> str:
    """Return targets for CMake that lie where this file does."""
    name = f"tvm_eff::{identifier(model)}"
    text = _target(name, "SHARED", "model.so", "")
    return text + (_target(f"{name}_static", "STATIC", ARCHIVE, "m;pthread") if is_archived else "")


def _target(name: str, kind: str, file: str, needed: str) -> str:
    return f"""\
if(NOT TARGET {name})
  add_library({name} {kind} IMPORTED)
  set_target_properties({name} PROPERTIES
    IMPORTED_LOCATION "${{CMAKE_CURRENT_LIST_DIR}}/{file}"
    INTERFACE_INCLUDE_DIRECTORIES "${{CMAKE_CURRENT_LIST_DIR}}"
    INTERFACE_LINK_LIBRARIES "{needed}")
endif()
"""
