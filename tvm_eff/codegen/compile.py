"""Compile and link: kernels for the tuner, executables for the product."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tvm
from tvm import relax
from tvm.s_tir import Schedule

from tvm_eff import failures
from tvm_eff.codegen import opencl_source, toolchain
from tvm_eff.errors import BuildError, Error
from tvm_eff.passes import pipeline
from tvm_eff.targets import OpenCLRequirements, Target

KERNEL = "main"
"""The symbol of the function in a kernel's library."""


def build_kernel(sch: Schedule, target: Target, library: Path) -> None:
    """Compile the one function of `sch` into `library`.

    A weight whose layout the schedule changes is a parameter in its packed layout,
    as in the product, where packing has happened before. The product's checks of a
    kernel's arguments are left out, which are outside the function that computes.

    Raises
    ------
    BuildError
        TVM cannot lower or compile the function, or it cannot be linked.
    """
    try:
        built = compile_kernel(sch, target)
        _export(built, library, lambda objects: toolchain.link_shared(objects, library))
    except Error:
        raise
    except Exception as error:  # TVM raises its own types, all of them below Exception
        raise BuildError(f"a kernel cannot be compiled: {error}") from error


def compile_kernel(sch: Schedule, target: Target) -> Any:
    """Compile the one function of `sch` as :func:`build_kernel` does, and do not link it.

    Returns
    -------
    tvm.runtime.Module
        Its host's code, of which the assembly can be read.
    """
    mod = tvm.s_tir.transform.RemoveWeightLayoutRewriteBlock(skip_tensor_rewrite=True)(sch.mod)
    # The checks would take a seventh of the time, and the tuner knows what it passes.
    with pipeline.tir_context(target, {"tirx.disable_assert": True}):
        return tvm.tirx.build(
            pipeline.prepare_tir(mod),
            target=target.tvm_target(),
            pipeline=pipeline.tir_pipeline(target),
        )


def build_module(
    mod: tvm.IRModule, target: Target, library: Path, *, names_libc: bool = True
) -> OpenCLRequirements | None:
    """Compile a Relax module into a library for the target's glibc and later ones.

    Parameters
    ----------
    mod
        The module.
    target
        What the library is for.
    library
        The shared library to write.
    names_libc
        Whether it names the libc that it needs. Without, it is linked in 10 ms where a second is
        usual, and several where zig was never used; a process that has libc and libm loads it.

    Returns
    -------
    OpenCLRequirements or None
        What the library needs of the GPU; None if it runs on the processor.

    Raises
    ------
    BuildError
        TVM cannot compile the module, the OpenCL C that it generates is not valid, or the
        library cannot be linked.
    """
    try:
        with pipeline.tir_context(target):
            built = relax.build(
                pipeline.prepare_tir(mod),
                target=target.tvm_target(),
                tir_pipeline=pipeline.tir_pipeline(target),
            )
        needs = None if target.gpu is None else _needs(mod, built)
        triple = target.toolchain.zig_triple

        def link(objects: list[Path]) -> None:
            # Where there are no kernels, TVM hands over what is not code in C.
            if names_libc or any(each.suffix != ".o" for each in objects):
                toolchain.compile_shared(objects, library, triple, flags=["-lm", "-s"])
            else:
                toolchain.link_shared(objects, library)

        _export(
            built,
            library,
            link,
            pack=_pack_imports(target) if target.tvm.get("opt-level") == 0 else None,
        )
    except Error:
        raise
    except Exception as error:  # TVM raises its own types, all of them below Exception
        raise BuildError(
            f"the network cannot be compiled for {target.name}: {failures.advice(error)}"
        ) from error
    return needs


def _needs(mod: tvm.IRModule, built: Any) -> OpenCLRequirements:
    source = opencl_source.source_of(built.mod)
    opencl_source.check(source)
    return opencl_source.needs_of(mod, source)


def _export(
    built: Any,
    library: Path,
    link: Callable[[list[Path]], None],
    pack: Callable[..., str] | None = None,
) -> None:
    def fcompile(output: str, objects: list[str], **_: Any) -> None:
        link([Path(each) for each in objects])

    fcompile.output_format = "so"  # type: ignore[attr-defined]
    options = {} if pack is None else {"fpack_imports": pack}
    built.export_library(str(library), fcompile=fcompile, **options)


def _pack_imports(target: Target) -> Callable[..., str]:
    """Pack what is no machine code as TVM does, but optimized, and as no system library.

    TVM takes every library for one: what registers it is never reached, and only LLVM's
    optimizations take it out. Left in, loading two such libraries prints a warning.
    """
    words = json.dumps({"kind": "llvm", "mtriple": target.tvm["mtriple"]})
    packed = tvm.get_global_func("runtime.ModulePackImportsToLLVM")

    def pack(module: Any, _: bool, prefix: str, folder: str) -> str:
        path = Path(folder) / "imports.o"
        packed(module, False, words, prefix).write_to_file(str(path))
        return str(path)

    return pack
