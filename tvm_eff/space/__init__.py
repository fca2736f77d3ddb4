"""Design spaces: which schedules exist for a fused PrimFunc on the target's hardware."""

from tvm_eff.space.packing import Packing, pack_inputs
from tvm_eff.space.rule import Candidate
from tvm_eff.space.select import UNSCHEDULED, apply, candidates, packing

__all__ = [
    "UNSCHEDULED",
    "Candidate",
    "Packing",
    "apply",
    "candidates",
    "pack_inputs",
    "packing",
]
