"""Passes on TIR, one a file; :mod:`tvm_eff.passes.pipeline` shows their order."""
