"""The next block of weights is asked for, each of its lines once, while one is used."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
import tvm
from kernels import HOST, tasks_of
from torch import nn

from tvm_eff import space
from tvm_eff.attributes import PREFETCH
from tvm_eff.build.prefetch import LINE_BYTES, prefetch_weights
from tvm_eff.errors import BuildError
from tvm_eff.space import Candidate

COLUMNS = 32
SIDE = 7

pytestmark = pytest.mark.skipif(
    not HOST.toolchain.triple.startswith("x86_64"), reason="schedules ask for this on x86 only"
)


def scheduled(channels: int, rows: int = SIDE, order: int = 1) -> tvm.IRModule:
    """Return a pointwise convolution in blocks of channels, its weights packed."""
    task = tasks_of(nn.Conv2d(channels, channels, 1), (1, channels, SIDE, SIDE))[0]
    lanes = HOST.hardware.lanes
    decisions = {"rows": rows, "columns": COLUMNS, "lanes": lanes, "unroll": 4, "order": order}
    sch = space.apply(task.func, Candidate.of("register_tile", decisions), HOST)
    return tvm.s_tir.transform.RemoveWeightLayoutRewriteBlock(skip_tensor_rewrite=True)(sch.mod)


def lines_asked_for(channels: int, rows: int) -> list[int]:
    """Evaluate the addresses of every fetch, in the order of the loops."""
    script = prefetch_weights(scheduled(channels, rows)).script()
    condition = re.search(r"if (T\.ignore_loop_partition.*):", script)
    offsets = re.findall(r"T\.address_of\(.*?\]\), (.*)\), 0, 2, 1\)", script)
    assert offsets, "the kernel fetches"
    functions = SimpleNamespace(min=min, ignore_loop_partition=bool)
    lines = []
    for fused in range(channels // COLUMNS * SIDE):
        for tile in range(-(-SIDE // rows)):
            for step in range(channels // 4):
                loops = {"ff_0_nn_yy_fused": fused, "xx_0": tile, "rc_0": step, "ry": 0, "rx": 0}
                names = {"T": functions, **loops}
                if condition is None or eval(condition[1], names):
                    lines += [eval(offset, names) // LINE_BYTES for offset in offsets]
    return lines


@pytest.mark.parametrize(("channels", "rows"), [(128, 7), (256, 7), (256, 3), (96 * 3, 7)])
def test_each_line_of_the_next_block_is_asked_for_once(channels: int, rows: int) -> None:
    lines = lines_asked_for(channels, rows)
    in_block = channels * COLUMNS * 4 // LINE_BYTES
    blocks = channels // COLUMNS
    asked = [lines[start : start + in_block] for start in range(0, len(lines), in_block)]
    after = [*range(1, blocks), blocks - 1]
    assert len(asked) == blocks
    for block, here in zip(after, asked, strict=True):
        assert here == list(range(block * in_block, (block + 1) * in_block))


def test_small_weights_and_other_orders_are_left_alone() -> None:
    assert PREFETCH not in scheduled(64).script()
    assert PREFETCH not in scheduled(256, order=0).script()
    assert PREFETCH in scheduled(256).script()


def test_a_mark_without_weights_is_an_error() -> None:
    mod = scheduled(256)
    script = mod.script().replace(f'"{PREFETCH}": [1,', f'"{PREFETCH}": [7,')
    with pytest.raises(BuildError, match="reads none"):
        prefetch_weights(tvm.script.from_source(script))
