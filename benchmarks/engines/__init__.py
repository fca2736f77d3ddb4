"""The engines that benchmarks compare, and the way they take turns.

One file an engine. It is imported in the engine's own process, which may run under
another Python than ours: only our own and PyTorch's need tvm_eff.
"""
