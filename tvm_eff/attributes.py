"""Attributes by which a pass tells those behind it what a PrimFunc is."""

PLACES = "tvm_eff.places"
"""It stores its input at a place in its output, and leaves the rest alone."""

TOGETHER = "tvm_eff.together"
"""It takes the parts of its output from several tensors; no library has such a function."""

PREFETCH = "tvm_eff.prefetch"
"""On a loop over one block of packed weights: which of the reads they are, how many blocks
there are, and how many times all of them are gone through."""
