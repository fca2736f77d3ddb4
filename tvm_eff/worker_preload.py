"""What the process imports that builders are forked from.

TVM imports PyTorch where that is installed, which takes longer than TVM itself, and builders do
without. A user's script that they import may import it later.
"""

import sys

if "torch" not in sys.modules:
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        import tvm_eff.tune.worker  # noqa: F401
    finally:
        del sys.modules["torch"]
