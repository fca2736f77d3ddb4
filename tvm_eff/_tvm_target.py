"""From checked attributes to TVM's target; the only part of targets that imports TVM."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tvm
from tvm.target import codegen

from tvm_eff.errors import TargetError, nearest


def make(attributes: Mapping[str, Any], path: Path) -> tvm.target.Target:
    """Return TVM's target.

    LLVM only warns about a CPU or a feature that it does not know, and compiles
    for a plain processor: here that is an error.

    Raises
    ------
    TargetError
        TVM or LLVM does not know an attribute, the CPU or a CPU feature.
    """
    config = {
        key: list(value) if isinstance(value, tuple) else value for key, value in attributes.items()
    }
    triple, mcpu = config["mtriple"], config["mcpu"]
    plain = tvm.target.Target({"kind": "llvm", "mtriple": triple})
    with plain:
        known = [str(name) for name in codegen.llvm_get_cpu_archlist(plain)]
    if not known:
        raise TargetError(f"{path}: LLVM has no code generator for 'tvm.mtriple' {triple!r}")
    if mcpu not in known:
        raise TargetError(f"{path}: LLVM knows no 'tvm.mcpu' {mcpu!r}{nearest(mcpu, known)}")
    return tvm.target.Target(config)
