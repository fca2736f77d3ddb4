"""Work-groups: how a grid of work-items is divided, within what the device allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm.s_tir import Schedule

from tvm_eff.schedules.rule import sample, vector_length
from tvm_eff.targets import Gpu, Target

GROUP = 64
"""Work-items in a group that suit a GPU: enough to hide memory, few enough registers."""

FEW = 4
"""Work-items in a small group, which suits devices with few of them in flight."""

WIDE = 16
"""OpenCL's longest vector: processors have registers for it, GPUs take it apart."""

WIDE_REGISTERS = 4
"""How many times a GPU's registers a work-item has where vectors are as long."""

CHOICES = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Group:
    """The extents of a work-group; x varies fastest.

    Attributes
    ----------
    x
        Work-items that take neighbouring channels.
    y
        Work-items that take neighbouring positions.
    """

    x: int
    y: int


@dataclass(frozen=True)
class Width:
    """A length of vectors, and what suits the devices that it is for.

    Attributes
    ----------
    lanes
        Values in a vector.
    registers
        32-bit registers of a work-item.
    is_wide
        Whether it is for devices that are processors, rather than for GPUs.
    """

    lanes: int
    registers: int
    is_wide: bool


def widths(channels: int, target: Target) -> list[Width]:
    """Return the lengths of vectors to try, the GPU's own first."""
    own, wide = (vector_length(channels, lanes) for lanes in (target.lanes, WIDE))
    registers = gpu_of(target).registers
    found = [Width(own, registers, False)]
    if wide > own:
        found.append(Width(wide, WIDE_REGISTERS * registers, True))
    return found


def gpu_of(target: Target) -> Gpu:
    """Return the GPU of a target that has one."""
    assert target.gpu is not None, "the rules for GPUs are asked for targets with one"
    return target.gpu


def groups(columns: int, rows: int, width: Width, target: Target) -> list[Group]:
    """Return work-groups for a grid of `columns` by `rows` work-items, the best guess first."""
    most = min(GROUP, gpu_of(target).work_group)
    few = _group(columns, rows, 1, FEW)
    found = [few] if width.is_wide else [_group(columns, rows, 8, most), few]
    return list(dict.fromkeys(found))


def _group(columns: int, rows: int, across: int, most: int) -> Group:
    x = _share(columns, min(across, most))
    return Group(x, _share(rows, most // x))


def _share(count: int, most: int) -> int:
    """Return a group's extent: one that divides `count`, if it is not much smaller than `most`."""
    most = min(count, most)
    even = max(n for n in range(1, most + 1) if count % n == 0)
    return even if 2 * even > most else most


def launch(sch: Schedule, rows: Any, columns: Any, group: Group) -> tuple[Any, Any]:
    """Make a loop over positions and the loop over channels inside it a grid of work-items.

    Returns
    -------
    tuple
        The loops over the work-items of a group.
    """
    y, x = sample(sch, CHOICES, group.y), sample(sch, CHOICES, group.x)
    row_block, row = sch.split(rows, [None, y])
    column_block, column = sch.split(columns, [None, x])
    sch.reorder(row_block, column_block, row, column)
    sch.bind(row_block, "blockIdx.y")
    sch.bind(column_block, "blockIdx.x")
    sch.bind(row, "threadIdx.y")
    sch.bind(column, "threadIdx.x")
    return row, column


def launch_flat(sch: Schedule, loop: Any, size: int) -> None:
    """Make one loop a row of work-items, in groups of `size`."""
    block, thread = sch.split(loop, [None, sample(sch, CHOICES, size)])
    sch.bind(block, "blockIdx.x")
    sch.bind(thread, "threadIdx.x")
