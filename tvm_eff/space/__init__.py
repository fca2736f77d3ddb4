"""Design spaces: which schedules exist for a fused PrimFunc on the target's hardware."""

from tvm_eff.space.packing import Packing, pack_inputs
from tvm_eff.space.rule import Alternative, Candidate
from tvm_eff.space.select import UNSCHEDULED, alternatives, apply, candidates, packings, rewritten

__all__ = [
    "UNSCHEDULED",
    "Alternative",
    "Candidate",
    "Packing",
    "alternatives",
    "apply",
    "candidates",
    "pack_inputs",
    "packings",
    "rewritten",
]
