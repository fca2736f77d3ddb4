"""Attributes by which a pass tells those behind it what a PrimFunc is."""

PLACES = "tvm_eff.places"
"""It stores its input at a place in its output, and leaves the rest alone."""

TOGETHER = "tvm_eff.together"
"""It takes the parts of its output from several tensors; no library has such a function."""

PREFETCH = "tvm_eff.prefetch"
"""On a loop over one block of packed weights: how many blocks there are, how many channels each
has, and how many times all of them are gone through."""
