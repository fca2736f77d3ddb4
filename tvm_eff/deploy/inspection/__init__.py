"""What a bundle holds, needs and says of itself, without running it: for any architecture."""

from tvm_eff.deploy.inspection.inspect import Inspection, inspect, require_declared

__all__ = ["Inspection", "inspect", "require_declared"]
