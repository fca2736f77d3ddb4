"""The temporaries that a kernel takes from the runtime: known before it runs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import tirx

from tvm_eff.passes.tir.stack_allocation import is_on_stack

_ALIGNMENT = 64


@dataclass(frozen=True)
class Workspace:
    """Bytes that a kernel takes at most.

    Attributes
    ----------
    shared
        Outside its parallel loops, once.
    each_thread
        Inside them, in each thread.
    """

    shared: int = 0
    each_thread: int = 0

    def __add__(self, other: Workspace) -> Workspace:
        return Workspace(self.shared + other.shared, self.each_thread + other.each_thread)

    def __or__(self, other: Workspace) -> Workspace:
        """Return what either of two needs."""
        most = max(self.shared, other.shared), max(self.each_thread, other.each_thread)
        return Workspace(*most)


class WorkspaceRecorder:
    """A pass that notes what the kernels of a module take, and leaves them as they are."""

    def __init__(self) -> None:
        self.most = Workspace()

    def as_pass(self) -> tvm.transform.Pass:
        """Return it as a pass to put behind :func:`tvm_eff.passes.pipeline.lower_tir_cpu`."""

        def note(func: tirx.PrimFunc, _mod: tvm.IRModule, _context: object) -> tirx.PrimFunc:
            self.most |= workspace_of(func)
            return func

        return tirx.transform.prim_func_pass(note, opt_level=0)


def workspace_of(func: tirx.PrimFunc) -> Workspace:
    """Return what a lowered kernel takes.

    Raises
    ------
    ValueError
        A temporary's size is not known.
    """
    return _of(func.body, parallel=False)


def _of(node: Any, parallel: bool) -> Workspace:
    found = Workspace()
    if isinstance(node, tirx.AllocBuffer) and not is_on_stack(node):
        size = _bytes(node.buffer)
        found += Workspace(each_thread=size) if parallel else Workspace(shared=size)
    if isinstance(node, tirx.For):
        parallel = parallel or node.kind == tirx.ForKind.PARALLEL
    for inner in _inside(node):
        found += _of(inner, parallel)
    return found


def _bytes(buffer: tirx.Buffer) -> int:
    if not all(isinstance(extent, tirx.IntImm) for extent in buffer.shape):
        raise ValueError(f"the size of the temporary {buffer.name} is not known")
    dtype = tvm.DataType(buffer.dtype)
    size = math.prod(int(n) for n in buffer.shape) * dtype.bits * dtype.lanes // 8
    return (size + _ALIGNMENT - 1) // _ALIGNMENT * _ALIGNMENT


def _inside(node: Any) -> tuple[Any, ...]:
    if isinstance(node, tirx.SeqStmt):
        return tuple(node.seq)
    if isinstance(node, tirx.IfThenElse):
        return tuple(each for each in (node.then_case, node.else_case) if each is not None)
    body = getattr(node, "body", None)
    return () if body is None else (body,)
