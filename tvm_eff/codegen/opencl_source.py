"""The OpenCL C of a compiled module: is it valid, and what does it need of a device?

A driver compiles the kernels when they are first called, on the board. That they compile at
all is known here and now from clang's front end, which zig has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import SBlockRealize

from tvm_eff import paths
from tvm_eff.codegen import toolchain
from tvm_eff.errors import BuildError
from tvm_eff.scratch import scratch_folder
from tvm_eff.targets import OpenCLRequirements

LANGUAGE = "1.2"
"""The version of OpenCL C that TVM generates."""

_KERNEL = "// Function: "
_DECLARATION = re.compile(r"^__kernel void .*;\n", re.MULTILINE)
_EXTENSIONS = {"half": "cl_khr_fp16", "double": "cl_khr_fp64"}
_BYTES = {"char": 1, "short": 2, "half": 2, "int": 4, "float": 4, "long": 8, "double": 8}
_LOCAL = re.compile(r"__local (?:volatile )?u?(\w+?)(\d*) \w+\[(\d+)\]")


@tvm.register_global_func("tvm_callback_opencl_postproc", override=True)
def without_declarations(source: str, _target: object) -> str:
    """Return the code of one kernel without the declarations of all that TVM puts in front.

    TVM calls this for every kernel: with ninety of them the declarations are a megabyte.
    """
    return _DECLARATION.sub("", source)


def source_of(module: Any) -> str:
    """Return the OpenCL C among the modules that `module` imports; empty if there is none."""
    if module.kind == "opencl":
        return str(module.inspect_source())
    return "\n".join(filter(None, map(source_of, module.imports)))


def check(source: str) -> None:
    """Have a compiler's front end read OpenCL C.

    Raises
    ------
    BuildError
        It is not valid; the message names the kernel and what is wrong with it.
    """
    with scratch_folder() as folder:
        file = folder / "kernels.cl"
        file.write_text(source, encoding="utf-8")
        command = [
            "clang",
            "-x",
            "cl",
            f"-cl-std=CL{LANGUAGE}",
            "-target",
            "spir64-unknown-unknown",
        ]
        include = f"-I{paths.data_folder('runtime') / 'opencl_c'}"
        try:
            toolchain.run([*command, include, "-fsyntax-only", "-ferror-limit=3", "-w", file])
        except BuildError as error:
            lines = str(error).replace(f"{file}:", "line ")
            raise BuildError(
                f"the generated OpenCL C is not valid{_where(source, lines)}: {lines}"
            ) from error


def needs_of(mod: tvm.IRModule, source: str) -> OpenCLRequirements:
    """Return what a device must have.

    Parameters
    ----------
    mod
        The scheduled module that was compiled.
    source
        The OpenCL C that it became.
    """
    words = {word.rstrip("0123456789") for word in set(re.findall(r"\b[a-z]+\d*\b", source))}
    functions = [func for _, func in mod.functions_items() if isinstance(func, tirx.PrimFunc)]
    return OpenCLRequirements(
        version=LANGUAGE,
        extensions=tuple(name for word, name in _EXTENSIONS.items() if word in words),
        work_group=max((size for func in functions for size in _work_groups(func.body)), default=1),
        local_memory=max(map(_local_memory, source.split(_KERNEL))),
    )


def _local_memory(kernel: str) -> int:
    return sum(
        _BYTES[kind] * int(lanes or 1) * int(count) for kind, lanes, count in _LOCAL.findall(kernel)
    )


def _work_groups(stmt: Any) -> Iterator[int]:
    """The work-items in a work-group of each kernel that a function launches."""
    if isinstance(stmt, tirx.For) and stmt.thread_binding is not None:
        size = 1
        for extent in _thread_extents(stmt).values():
            size *= extent
        yield size
        return
    for inner in _inside(stmt):
        yield from _work_groups(inner)


def _thread_extents(stmt: Any) -> dict[str, int]:
    """How many threads each dimension of one kernel has."""
    found: dict[str, int] = {}
    if isinstance(stmt, tirx.For) and stmt.thread_binding is not None:
        tag = str(stmt.thread_binding.thread_tag)
        if tag.startswith("threadIdx"):
            found[tag] = int(stmt.extent)
    for inner in _inside(stmt):
        for tag, extent in _thread_extents(inner).items():
            found[tag] = max(extent, found.get(tag, 1))
    return found


def _inside(stmt: Any) -> tuple[Any, ...]:
    if isinstance(stmt, tirx.SeqStmt):
        return tuple(stmt.seq)
    if isinstance(stmt, tirx.IfThenElse):
        return tuple(each for each in (stmt.then_case, stmt.else_case) if each is not None)
    if isinstance(stmt, SBlockRealize):
        return (stmt.block.body,)
    body = getattr(stmt, "body", None)
    return () if body is None else (body,)


def _where(source: str, complaint: str) -> str:
    found = re.search(r"line (\d+):", complaint)
    before = source.splitlines()[: int(found.group(1))] if found else []
    kernel = next((line for line in reversed(before) if line.startswith(_KERNEL)), None)
    return "" if kernel is None else f" in {kernel.removeprefix(_KERNEL)}"
