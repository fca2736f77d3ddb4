"""Design spaces: the candidate schedules of a fused PrimFunc on the target's hardware."""

from tvm_eff.schedules.packing import Packing, pack_inputs
from tvm_eff.schedules.registry import (
    UNSCHEDULED,
    added_weight_bytes,
    alternative,
    alternatives,
    apply,
    candidates,
    is_known,
    packings,
    rewritten,
    rule_version,
    transforms_weight,
)
from tvm_eff.schedules.rule import Alternative, Candidate

__all__ = [
    "UNSCHEDULED",
    "Alternative",
    "Candidate",
    "Packing",
    "added_weight_bytes",
    "alternative",
    "alternatives",
    "apply",
    "candidates",
    "is_known",
    "pack_inputs",
    "packings",
    "rewritten",
    "rule_version",
    "transforms_weight",
]
