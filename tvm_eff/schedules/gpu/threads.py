"""Work-group sizes and vector lengths, within the limits of the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm.s_tir import Schedule

from tvm_eff.schedules.rule import sample, vector_length
from tvm_eff.targets import Gpu, Target

GROUP = 64
"""Work-items per group on a GPU: enough to hide latency, few enough for the registers."""

SMALL_GROUP = 4
"""Work-items in a small group, for devices with few of them in flight."""

WIDE_LANES = 16
"""OpenCL's longest vector: CPUs have registers for it, GPUs split it."""

WIDE_REGISTERS = 4
"""Register budget of a work-item with such vectors, in multiples of a GPU's."""

CHOICES = (1, 2, 4, 8, 16, 32, 64)
"""Extents of a work-group that are sampled in traces."""


@dataclass(frozen=True)
class Group:
    """The extents of a work-group; x varies fastest.

    Attributes
    ----------
    x
        Work-items along the channels.
    y
        Work-items along the positions.
    """

    x: int
    y: int


@dataclass(frozen=True)
class Width:
    """A vector length and the register budget of the devices that it is for.

    Attributes
    ----------
    lanes
        Elements of a vector.
    registers
        32-bit registers of a work-item.
    is_wide
        Whether it is for OpenCL on CPUs, rather than on GPUs.
    """

    lanes: int
    registers: int
    is_wide: bool


def widths(channels: int, target: Target) -> list[Width]:
    """Return the vector lengths to try, the GPU's own first."""
    own, wide = (vector_length(channels, lanes) for lanes in (target.lanes, WIDE_LANES))
    registers = gpu_of(target).registers
    found = [Width(own, registers, False)]
    if wide > own:
        found.append(Width(wide, WIDE_REGISTERS * registers, True))
    return found


def gpu_of(target: Target) -> Gpu:
    """Return the GPU of a target that has one."""
    assert target.gpu is not None, "GPU rules are used for targets with a GPU only"
    return target.gpu


def groups(columns: int, rows: int, width: Width, target: Target) -> list[Group]:
    """Return work-groups for a grid of `columns` by `rows` work-items, most promising first."""
    limit = min(GROUP, gpu_of(target).work_group)
    small = _group(columns, rows, 1, SMALL_GROUP)
    found = [small] if width.is_wide else [_group(columns, rows, 8, limit), small]
    return list(dict.fromkeys(found))


def _group(columns: int, rows: int, across: int, limit: int) -> Group:
    x = _group_extent(columns, min(across, limit))
    return Group(x, _group_extent(rows, limit // x))


def _group_extent(count: int, limit: int) -> int:
    """Return an extent up to `limit`: a divisor of `count`, unless that is less than half."""
    limit = min(count, limit)
    even = max(n for n in range(1, limit + 1) if count % n == 0)
    return even if 2 * even > limit else limit


def launch(sch: Schedule, rows: Any, columns: Any, group: Group) -> tuple[Any, Any]:
    """Bind a loop over positions and the loop over channels inside it to work-groups.

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
    """Bind one loop to a one-dimensional grid of work-items, in groups of `size`."""
    block, thread = sch.split(loop, [None, sample(sch, CHOICES, size)])
    sch.bind(block, "blockIdx.x")
    sch.bind(thread, "threadIdx.x")
