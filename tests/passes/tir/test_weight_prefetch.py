"""While a block of weights is used, each cache line of the next one is prefetched once."""

from __future__ import annotations

import itertools
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import tvm
from kernels import HOST, tasks_of
from torch import nn

from tvm_eff import schedules
from tvm_eff.errors import BuildError
from tvm_eff.passes.attributes import PREFETCH
from tvm_eff.passes.tir.weight_prefetch import LINE_BYTES, prefetch_weights
from tvm_eff.schedules import Candidate
from tvm_eff.schedules.cpu.convolution import CHANNELS_INNER, CHANNELS_OUTER, ROWS_OUTER
from tvm_eff.targets import FLOAT32_BYTES

COLUMNS = 32
SIDE = 8
CORES = HOST.hardware.cores

pytestmark = pytest.mark.skipif(
    not HOST.toolchain.triple.startswith("x86_64"), reason="schedules prefetch on x86 only"
)


def scheduled(channels: int, rows: int = SIDE, order: int = CHANNELS_OUTER) -> tvm.IRModule:
    """Return a pointwise convolution in blocks of channels, its weights packed."""
    height = SIDE * CORES
    task = tasks_of(nn.Conv2d(channels, channels, 1), (1, channels, height, SIDE))[0]
    lanes = HOST.hardware.lanes
    decisions = {"rows": rows, "columns": COLUMNS, "lanes": lanes, "unroll": 4, "order": order}
    sch = schedules.apply(task.func, Candidate.of("register_tile", decisions), HOST)
    return tvm.s_tir.transform.RemoveWeightLayoutRewriteBlock(skip_tensor_rewrite=True)(sch.mod)


def prefetched_lines(mod: tvm.IRModule) -> list[int]:
    """Evaluate the addresses of every prefetch, in iteration order."""
    before, fetches = prefetch_weights(mod).script().split("T.prefetch(", 1)
    condition = re.search(r"if (T\.ignore_loop_partition.*):", before)
    offsets = re.findall(r"T\.address_of\(.*?\]\), (.*)\), 0, 3, 1\)", fetches)
    loops = _loops_around(before)
    functions = SimpleNamespace(min=min, ignore_loop_partition=bool)
    lines = []
    for iteration in itertools.product(*(range(extent) for _, extent in loops)):
        names = {"T": functions} | dict(zip((name for name, _ in loops), iteration, strict=True))
        if condition is None or eval(condition[1], names):
            lines += [eval(offset, names) // LINE_BYTES for offset in offsets]
    return lines


def _loops_around(text: str) -> list[tuple[str, int]]:
    """Return the loops, with their extents, that enclose the last line of `text`."""
    loops: list[tuple[str, int]] = []
    depth = sys.maxsize
    for line in reversed(text.splitlines()):
        indent = len(line) - len(line.lstrip())
        if line.strip() and indent < depth:
            depth = indent
            if found := re.match(r" *for (.*) in [T.\w]+\(([\d, ]*\d)", line):
                names, extents = found[1].split(", "), [int(n) for n in found[2].split(", ")]
                loops[:0] = zip(names, extents, strict=True)
    return loops


@pytest.mark.parametrize("order", [CHANNELS_OUTER, ROWS_OUTER])
@pytest.mark.parametrize(("channels", "rows"), [(256, 8), (256, 3), (288, 8)])
def test_each_line_of_the_next_block_is_prefetched_once(
    channels: int, rows: int, order: int
) -> None:
    lines = prefetched_lines(scheduled(channels, rows, order))
    lines_per_block = channels * COLUMNS * 4 // LINE_BYTES
    blocks = channels // COLUMNS
    after = [*range(1, blocks), blocks - 1] * (CORES if order == ROWS_OUTER else 1)
    expected = [range(block * lines_per_block, (block + 1) * lines_per_block) for block in after]
    assert lines == list(itertools.chain.from_iterable(expected))


def passes_over_weights(candidate: Candidate) -> int:
    """Return how many row blocks iterate over all of the weights."""
    decisions = candidate.as_dict()
    if "row_blocks" in decisions:
        return decisions["row_blocks"]
    tiles_down = -(-SIDE * CORES // decisions["tile"])
    return tiles_down // decisions["tile_rows"] if decisions["tile_rows"] else 1


@pytest.mark.parametrize(
    ("rule", "inner", "outer", "kernel"),
    [("strassen_row_blocks", 256, 256, 1), ("winograd", 64, 128, 3)],
)
def test_transformed_weights_are_prefetched_in_the_order_of_use(
    rule: str, inner: int, outer: int, kernel: int
) -> None:
    model = nn.Conv2d(inner, outer, kernel, padding=kernel // 2)
    task = tasks_of(model, (1, inner, SIDE * CORES, 4 * SIDE))[0]
    found = schedules.candidates(task.func, HOST)
    tried = [candidate for candidate in found if candidate.rule == rule][:3]
    assert tried
    for candidate in tried:
        mod = schedules.apply(task.func, candidate, HOST).mod
        marks = re.findall(rf'"{PREFETCH}": \[(\d+), (\d+), (\d+)\]', mod.script())
        blocks, columns, passes = (int(n) for n in marks[0])
        assert passes == passes_over_weights(candidate)
        [weights] = schedules.packings(task.func, candidate)
        packed = weights.pack(np.zeros((outer, kernel, kernel, inner), "float32"))
        lines_per_block = packed.nbytes // blocks // LINE_BYTES
        assert packed.shape[-1] == columns
        # One register tile reads one block.
        assert lines_per_block == packed.shape[-2] * columns * FLOAT32_BYTES // LINE_BYTES
        prefetched = prefetched_lines(mod)
        for number in range(passes):
            # The last iteration over a block may prefetch a line or two of the one after.
            of_pass = prefetched[
                number * len(prefetched) // passes : (number + 1) * len(prefetched) // passes
            ]
            in_order = list(dict.fromkeys(of_pass))
            expected = list(range(lines_per_block, blocks * lines_per_block))
            assert in_order[: len(expected)] == expected, candidate
            assert len(in_order) <= len(expected) + 2, candidate


def test_small_weights_and_other_orders_are_left_alone() -> None:
    assert PREFETCH not in scheduled(64).script()
    assert PREFETCH not in scheduled(256, order=CHANNELS_INNER).script()
    assert PREFETCH in scheduled(256).script()


def test_an_annotation_without_weights_is_an_error() -> None:
    mod = scheduled(256)
    script = mod.script().replace(f'"{PREFETCH}": [8, 32,', f'"{PREFETCH}": [7, 32,')
    with pytest.raises(BuildError, match="7 blocks of 32 channels"):
        prefetch_weights(tvm.script.from_source(script))
