"""Buffers in use at the same time never overlap, and the arena is hardly larger than them."""

from __future__ import annotations

import random

import pytest

from tvm_eff import frontend, models, passes, targets
from tvm_eff.deploy.native.arena import ALIGNMENT, Lifetime, pack
from tvm_eff.deploy.native.planner import plan
from tvm_eff.passes import pipeline


def test_nothing_to_pack() -> None:
    assert (pack([]).offsets, pack([]).size, pack([]).least) == ((), 0, 0)


@pytest.mark.parametrize("seed", range(50))
def test_by_chance(seed: int) -> None:
    chance = random.Random(seed)
    lifetimes = []
    for _ in range(chance.randint(1, 60)):
        first = chance.randint(0, 40)
        last = first + chance.choice((1, 1, 2, 3, 20))
        lifetimes.append(Lifetime(chance.randint(1, 5000), first, last))
    found = pack(lifetimes)
    placed = list(zip(found.offsets, lifetimes, strict=True))
    for number, (offset, each) in enumerate(placed):
        assert offset % ALIGNMENT == 0
        assert offset + each.size <= found.size
        for other_offset, other in placed[:number]:
            apart = offset + each.size <= other_offset or other_offset + other.size <= offset
            assert apart or not each.meets(other)
    assert found.least <= found.size <= 1.5 * found.least


def test_a_chain_takes_two_buffers() -> None:
    chain = [Lifetime(1000, step, step + 1) for step in range(10)]
    assert pack(chain).size == pack(chain).least == 2 * 1024


@pytest.mark.parametrize("name", ["squeezenet1_1", "squeezenet_complex_bypass", "factorized"])
def test_no_arena_of_a_network_of_the_zoo_could_be_smaller(name: str) -> None:
    target = targets.load("rasp4")
    program = models.trace(models.load(name))
    lowered = passes.lower(frontend.import_program(program), target)
    packed = pipeline.prepare_tir(pipeline.pack_weights(lowered.mod, lowered.params))
    with target.tvm_target():
        planned = plan(pipeline.lower_calls(packed))
    assert planned.arena_bytes == planned.live_bytes
