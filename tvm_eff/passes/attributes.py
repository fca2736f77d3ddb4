"""Attributes of PrimFuncs and loops that passes and schedules hand to later passes."""

WRITES_SLICE = "tvm_eff.places"
"""The PrimFunc writes its input to a slice of its output, and leaves the rest unwritten."""

ASSEMBLES_SLICES = "tvm_eff.together"
"""The PrimFunc assembles its output from slices of several tensors; removed before codegen."""

AT_LOAD = "tvm_eff.at_load"
"""The PrimFunc makes weights larger than the model's, when a library is loaded."""

PREFETCH = "tvm_eff.prefetch"
"""On a loop over one block of packed weights: the number of blocks, the channels per block, and
the number of passes over all blocks."""
