"""Numbers on the pages are those of the code."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import pytest

from tvm_eff import targets
from tvm_eff.passes.relax import depthwise_chains
from tvm_eff.schedules.cpu import (
    contraction,
    convolution,
    depthwise_in_place,
    first_layer,
    half_sums,
)
from tvm_eff.schedules.cpu.convolution import Tile, tiles
from tvm_eff.schedules.cpu.pointwise import register_tiles
from tvm_eff.schedules.gpu import threads, tile
from tvm_eff.schedules.strassen import row_blocks, rule
from tvm_eff.schedules.winograd import half, integers
from tvm_eff.schedules.winograd.half_products import MOST_CHANNELS
from tvm_eff.schedules.winograd.match import FILTERS_IN_HALF, MAX_PRODUCT_RATIO
from tvm_eff.schedules.winograd.rewrite import SHORT_DEPTH
from tvm_eff.schedules.winograd.transforms import PAIRS, filters
from tvm_eff.tune import session, task_scheduler

DOCS = Path(__file__).resolve().parents[2] / "docs"
RASP4 = targets.load("rasp4")
STEPS = contraction.STEPS

SENTENCES = {
    "schedules.md": [
        f"Up to {convolution.MAX_ROWS} rows and {convolution.MAX_VECTORS} vectors",
        f"steps of {STEPS[0]}, {STEPS[1]} or {STEPS[2]} input channels",
        f"{contraction.SPARE_REGISTERS[16]} for steps of 16 input channels, "
        f"{contraction.SPARE_REGISTERS[8]} for 8",
        f"in blocks of {half.BLOCK} input channels (`depth`), "
        f"and of {half.SAFE_BLOCK} in the second",
        f"float16 up to {MOST_CHANNELS} channels",
        f"Up to {half_sums.MOST_TERMS:,} products the totals are of float16",
        f"**Sums of up to {integers.MOST_CHANNELS} input channels.**",
        f"up to {integers.MOST_IN_PARTS} in all",
        f"are multiplied by {', '.join(map(str, integers.SCALES[:-1]))} and {integers.SCALES[-1]}:",
        f"in the end by {integers.DIVISOR}.",
        f"up to {SHORT_DEPTH} channels their columns in float16",
        f"up to {first_layer.MAX_DEPTH} input channels",
        f"up to {first_layer.MAX_UNROLLED} multiply-adds",
        f"up to {depthwise_in_place.MAX_KERNEL_ELEMENTS} elements",
        f"up to {depthwise_chains.MAX_WEIGHTS:,} weights",
        f"1x1 convolution of stride 1, from {rule.MIN_CHANNELS} channels on",
        f"From {row_blocks.MIN_CHANNELS} channels on",
        f"in up to {row_blocks.CHUNK_COUNTS[-1]} equal chunks",
        f"blocks of {', '.join(map(str, row_blocks.BLOCKS[:-1]))} or {row_blocks.BLOCKS[-1]}",
        f"Input tiles of {' and '.join(map(str, PAIRS))} a side",
        f"at most {tile.MAX_UNROLLED} vector multiply-adds",
        f"work-groups of up to {threads.GROUP} work-items",
        f"and of {threads.SMALL_GROUP}.",
        f"vectors of {threads.WIDE_LANES}, for OpenCL on processors",
    ],
    "records.md": [
        f"the best {session.RECHECKED} priors",
        f"{session.RECHECK_SECONDS:.0f} seconds for a network in all",
    ],
}


@pytest.mark.parametrize(("page", "sentence"), [(p, s) for p in SENTENCES for s in SENTENCES[p]])
def test_pages_say_what_the_code_does(page: str, sentence: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    assert sentence in " ".join(text.split())


def test_lines_of_records_are_real() -> None:
    text = (DOCS / "records.md").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines() if line.startswith('{"kind"')]
    assert [line["kind"] for line in lines] == ["generation", "measurement"]
    assert lines[1]["generation"] == lines[0]["digest"]
    for line in lines:
        check = line.pop("check")
        found = hashlib.sha256(json.dumps(line, sort_keys=True).encode()).hexdigest()
        assert found.startswith(check)


def test_every_task_gets_its_first_four() -> None:
    assert "every task gets its first four" in " ".join(
        (DOCS / "architecture.md").read_text(encoding="utf-8").split()
    )
    assert task_scheduler.INITIAL_TRIALS == 4


def test_tiles_that_the_page_reckons_with() -> None:
    # 7 x 12 fills the registers of a Cortex-A72: no eighth row fits.
    widest = [each for each in tiles(28, 96, 96, RASP4) if each.columns == 12]
    assert Tile(7, 12, 4, 8) in widest
    assert max(each.rows for each in widest) == 7
    assert register_tiles(196, 96, RASP4)[:2] == [(8, 12), (12, 8)]


def test_winograd_as_the_page_says() -> None:
    assert [(each.tile, each.kernel_size) for each in filters(3)] == [(2, 3), (4, 3)]
    # A kernel of 7 and stride 2 is one of 4 rows.
    assert filters(math.ceil(7 / 2))[-1].tile == 3
    assert MAX_PRODUCT_RATIO == 0.5
    assert PAIRS[6] == (math.sqrt(0.5), math.sqrt(2))
    assert [(each.tile, each.kernel_size) for each in FILTERS_IN_HALF] == [(2, 3)]
