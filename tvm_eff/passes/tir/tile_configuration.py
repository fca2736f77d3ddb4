"""Configure the tile registers of Intel's AMX where a kernel's schedule uses them.

A schedule annotates the parallel loop whose iterations use tiles with
:data:`tvm_eff.passes.attributes.TILES`. Each iteration then configures the registers of the thread
it runs in, and releases them at its end, since what is in them has to be saved whenever the thread
is interrupted.
"""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import tirx

from tvm_eff.passes.attributes import TILES
from tvm_eff.passes.tir._loops import rebuilt

# Linux lets a process use tiles that has asked for it, whose threads then have larger signal
# frames: arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA). To ask again does nothing.
_ARCH_PRCTL, _REQUEST, _TILE_DATA = 158, 0x1023, 18


def configure_tiles(mod: tvm.IRModule) -> tvm.IRModule:
    """Return `mod` with the configurations that its schedules annotate."""
    marked = {
        variable: func.with_body(tvm_ffi.structural_map(func.body, (tirx.For, _configured)))
        for variable, func in mod.functions_items()
        if isinstance(func, tirx.PrimFunc) and _has_mark(func)
    }
    if not marked:
        return mod
    return tvm.IRModule(dict(mod.functions_items()) | marked, attrs=mod.attrs)


def _has_mark(func: tirx.PrimFunc) -> bool:
    def found(loop: tirx.For) -> tvm_ffi.VisitInterrupt | None:
        return tvm_ffi.VisitInterrupt(loop) if TILES in loop.annotations else None

    return tvm_ffi.structural_walk(func.body, (tirx.For, found)) is not None


def _configured(loop: tirx.For) -> tirx.Stmt:
    if TILES not in loop.annotations:
        return loop
    annotations = dict(loop.annotations)
    # A constant of the library, as a string: its bytes are those of ASCII.
    shapes = tvm.ir.StringImm("".join(chr(int(byte)) for byte in annotations.pop(TILES)))
    body = tirx.stmt_seq(
        _call("llvm.x86.ldtilecfg", shapes), loop.body, _call("llvm.x86.tilerelease")
    )
    configured = rebuilt(loop, body, annotations)
    numbers = (tirx.const(each, "int64") for each in (_ARCH_PRCTL, _REQUEST, _TILE_DATA))
    asked = tirx.Evaluate(tirx.call_extern("int64", "syscall", *numbers))
    return tirx.stmt_seq(asked, configured)


def _call(intrinsic: str, *arguments: object) -> tirx.Stmt:
    return tirx.Evaluate(tirx.call_llvm_intrin("void", intrinsic, *arguments))
