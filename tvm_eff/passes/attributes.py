"""Attributes of PrimFuncs and loops that passes and schedules hand to later passes."""

WRITES_SLICE = "tvm_eff.places"
"""The PrimFunc writes its input to a slice of its output, and leaves the rest unwritten."""

ASSEMBLES_SLICES = "tvm_eff.together"
"""The PrimFunc assembles its output from slices of several tensors; removed before codegen."""

AT_LOAD = "tvm_eff.at_load"
"""The PrimFunc makes weights larger than the model's, when a library is loaded."""

HALF_SUMS = "tvm_eff.half_sums"
"""On a block whose sums a schedule keeps in float16: its function is computed in float16 wherever
that rounds no more."""

PREFETCH = "tvm_eff.prefetch"
"""On a loop over one block of packed weights: the number of blocks, the channels per block, and
the number of passes over all blocks."""

TILES = "tvm_eff.tiles"
"""On a parallel loop whose iterations use tile registers: the bytes that configure these."""
