"""Design spaces: the candidate schedules of a fused PrimFunc on the target's hardware."""

from tvm_eff.schedules.packing import Packing, pack_inputs
from tvm_eff.schedules.registry import (
    UNSCHEDULED,
    alternatives,
    apply,
    candidates,
    packings,
    rewritten,
)
from tvm_eff.schedules.rule import Alternative, Candidate

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
