"""Graph passes, one a file; :mod:`tvm_eff.frontend.pipeline` shows their order."""
