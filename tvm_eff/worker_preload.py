"""What the process imports that builders are forked from.

TVM imports PyTorch where that is installed, which takes longer than TVM itself, and builders do
without. A user's script that they import may import it later.
"""

import sys

# Python's own way to have an import fail, unless somebody was there first.
sys.modules.setdefault("torch", None)  # type: ignore[arg-type]
try:
    import tvm_eff.tune.worker  # noqa: F401
finally:
    if not sys.modules["torch"]:
        del sys.modules["torch"]
