"""Pointwise convolution by Strassen's algorithm: rewrite, and two schedules of the result."""

from tvm_eff.schedules.strassen.row_blocks import StrassenRowBlocks
from tvm_eff.schedules.strassen.rule import Strassen

__all__ = ["Strassen", "StrassenRowBlocks"]
