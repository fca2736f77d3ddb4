"""From checked attributes to TVM's target; the only part of targets that imports TVM."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import tvm
from tvm.target import codegen

from tvm_eff.errors import TargetError, nearest
from tvm_eff.targets.schema import Gpu


def make(attributes: Mapping[str, Any], path: Path, gpu: Gpu | None = None) -> tvm.target.Target:
    """Return TVM's target: the processor, or the GPU with the processor as its host.

    LLVM only warns about a CPU or a feature that it does not know, and compiles
    for a plain processor: here that is an error.

    Raises
    ------
    TargetError
        LLVM does not know the CPU or one of its features.
    """
    config = {
        key: list(value) if isinstance(value, tuple) else value for key, value in attributes.items()
    }
    bare = tvm.target.Target({"kind": "llvm", "mtriple": config["mtriple"]})
    known = {str(name) for name in codegen.llvm_get_cpu_archlist(bare)}
    mcpu = str(config["mcpu"])
    if mcpu not in known:
        raise TargetError(f"{path}: LLVM knows no 'tvm.mcpu' '{mcpu}'{nearest(mcpu, known)}")
    target = tvm.target.Target(config)
    enabled = {str(name) for name in codegen.llvm_get_cpu_features(target)}
    for feature in config.get("mattr", []):
        if feature.startswith("+") and feature[1:] not in enabled:
            raise TargetError(
                f"{path}: LLVM knows no CPU feature {feature[1:]!r} of 'tvm.mattr' "
                f"for {config['mtriple']}; check its spelling"
            )
    return target if gpu is None else _with_gpu(gpu, config)


def features(attributes: Mapping[str, Any]) -> frozenset[str]:
    """Return the features, as LLVM calls them, of a processor with these attributes.

    Parameters
    ----------
    attributes
        TVM's, as LLVM is known to know them.
    """
    return _features(
        str(attributes["mtriple"]), str(attributes["mcpu"]), tuple(attributes.get("mattr", ()))
    )


@lru_cache
def _features(mtriple: str, mcpu: str, mattr: tuple[str, ...]) -> frozenset[str]:
    described = {"kind": "llvm", "mtriple": mtriple, "mcpu": mcpu, "mattr": list(mattr)}
    target = tvm.target.Target(described)
    return frozenset(str(name) for name in codegen.llvm_get_cpu_features(target))


def _with_gpu(gpu: Gpu, host: dict[str, Any]) -> tvm.target.Target:
    family = {} if gpu.device == "any" else {"device": gpu.device}
    return tvm.target.Target(
        {
            "kind": "opencl",
            **family,
            "max_num_threads": gpu.work_group,
            "max_threads_per_block": gpu.work_group,
            "max_shared_memory_per_block": gpu.local_memory_kib * 1024,
            "thread_warp_size": 1,
            "host": host,
        }
    )
