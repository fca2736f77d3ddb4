"""Two tuners on the same kernels: each in a process of its own, then their winners side by side."""
