"""Convolution by Winograd's algorithm: match, rewrite, schedule."""

from tvm_eff.schedules.winograd.rule import Winograd

__all__ = ["Winograd"]
