"""A native library: kernels, a plan in C and its runtime, linked into one file that needs libc."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tvm
import tvm_ffi.libinfo
from tvm import tirx

from tvm_eff import failures, paths
from tvm_eff.codegen import checksum, toolchain
from tvm_eff.codegen.workspace import Workspace, WorkspaceRecorder
from tvm_eff.errors import BuildError, Error
from tvm_eff.passes import pipeline
from tvm_eff.targets import Target

_RUNTIME = ("model.c", "packed.c", "pool.c", "processor.c")
_FLAGS = (
    *("-std=c11", "-O2", "-fPIC", "-fvisibility=hidden", "-DNDEBUG"),
    # Its functions are this library's own.
    "-DTVM_FFI_DLL=",
)
# By default a function of the system's loader finds a thread's variables: one more library to need.
# 64-bit Arm does without already, and for 32-bit Arm clang knows no other way.
_THREAD_VARIABLES = {"x86_64": ("-mtls-dialect=gnu2",)}
# The kernels have their names for profilers and for tvm-eff bisect.
_EXPORTED = "{ global: tvm_eff_this_library; __tvm_ffi_*; local: *; };\n"


def compile_kernels(
    mod: tvm.IRModule, target: Target, folder: Path
) -> tuple[list[Path], Workspace]:
    """Compile the PrimFuncs of a module.

    Returns
    -------
    tuple
        The object files in `folder`, and the temporaries that kernels take at most.

    Raises
    ------
    BuildError
        TVM cannot compile them.
    """
    recorder = WorkspaceRecorder()
    functions = {
        name: func for name, func in mod.functions_items() if isinstance(func, tirx.PrimFunc)
    }
    objects: list[Path] = []

    def keep(output: str, files: list[str], **_: Any) -> None:
        for each in files:
            objects.append(Path(shutil.copy(each, folder)))
        Path(output).touch()

    keep.output_format = "so"  # type: ignore[attr-defined]
    try:
        # The plan knows what it passes.
        with (
            pipeline.behind_lowering([recorder.as_pass()]),
            pipeline.tir_context(target, {"tirx.disable_assert": True}),
        ):
            built = tvm.tirx.build(
                tvm.IRModule(functions),
                target=target.tvm_target(),
                pipeline=pipeline.tir_pipeline(target),
            )
        built.export_library(str(folder / "kernels.so"), fcompile=keep)
    except Error:
        raise
    except Exception as error:  # TVM raises its own types, all of them below Exception
        raise BuildError(
            f"the kernels cannot be compiled for {target.name}: {failures.advice(error)}"
        ) from error
    return objects, recorder.most


def link_library(
    sources: Sequence[Path], objects: Sequence[Path], target: Target, library: Path
) -> None:
    """Compile a plan and the runtime, and link them with the kernels.

    Parameters
    ----------
    sources
        What :func:`tvm_eff.deploy.native.source.write_sources` wrote, all in one folder.
    objects
        The kernels.
    target
        What the library is for.
    library
        The shared library to write.

    Raises
    ------
    BuildError
        A compiler or linker refuses it.
    """
    script = sources[0].parent / "exported.map"
    script.write_text(_EXPORTED, encoding="ascii")
    exported = f"-Wl,--version-script={script}"
    # A kernel of another library's, of the same name, is not to be called in the place of its own.
    flags = ["-shared", exported, "-Wl,-Bsymbolic", "-Wl,--gc-sections", "-lm", "-s"]
    link(sources, objects, target, flags, library)
    checksum.append(library)


def link(
    sources: Sequence[Path],
    objects: Sequence[Path],
    target: Target,
    flags: Sequence[str],
    output: Path,
) -> None:
    """Compile a plan and the runtime, and link them with the kernels as `flags` say."""
    runtime = paths.data_folder("runtime") / "native"
    includes = [sources[0].parent, runtime, *tvm_ffi.libinfo.include_paths()]
    toolchain.run(
        [
            *("cc", "-target", target.toolchain.zig_triple, *_FLAGS),
            *_THREAD_VARIABLES.get(target.architecture.name, ()),
            *(f"-I{each}" for each in includes),
            *sources,
            *(runtime / name for name in _RUNTIME),
            *objects,
            *flags,
            *("-o", output),
        ]
    )
