"""Which kernel of a built library computes something else than PyTorch?"""

from tvm_eff.deploy.bisect.report import Bisection, Finding
from tvm_eff.deploy.bisect.search import Options, bisect

__all__ = ["Bisection", "Finding", "Options", "bisect"]
