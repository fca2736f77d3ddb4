"""Design spaces: which schedules exist for a fused PrimFunc on the target's hardware."""

from tvm_eff.space.rule import Candidate
from tvm_eff.space.select import UNSCHEDULED, apply, candidates

__all__ = ["UNSCHEDULED", "Candidate", "apply", "candidates"]
