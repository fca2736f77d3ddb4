"""What a manifest says of tensors, a target, and the versions of packages."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from typing import TYPE_CHECKING

import numpy as np

from tvm_eff import __version__
from tvm_eff.deploy import machine
from tvm_eff.deploy.manifest import EmulatorInfo, MadeFor, TensorInfo, Versions

if TYPE_CHECKING:
    from tvm_eff.targets import OpenCLRequirements, Target


def tensors(arrays: Mapping[str, np.ndarray]) -> tuple[TensorInfo, ...]:
    """Return what arrays look like, by their names."""
    return tuple(TensorInfo(name, a.shape, str(a.dtype)) for name, a in arrays.items())


def made_for(target: Target, opencl: OpenCLRequirements | None) -> MadeFor:
    """Return what a library for a target is made for."""
    emulator = target.emulator
    return MadeFor(
        name=target.name,
        log_name=target.log_name,
        is_host=target.is_host,
        tvm=target.tvm,
        cpu_features=machine.needed_features(target),
        triple=target.toolchain.triple,
        glibc=target.toolchain.glibc,
        emulator=None if emulator is None else EmulatorInfo(emulator.arch, emulator.cpu),
        opencl=opencl,
    )


def versions() -> Versions:
    """Return what a bundle is made with now."""
    packages = ("apache-tvm", "apache-tvm-ffi", "torch")
    return Versions(__version__, *(metadata.version(package) for package in packages))
