"""Can code that was made for a target run on this machine?"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tvm_eff.deploy.manifest import MadeFor
from tvm_eff.errors import UnsuitableDeviceError
from tvm_eff.targets import architectures
from tvm_eff.targets.detect import processor_features

if TYPE_CHECKING:
    from tvm_eff.device import Device
    from tvm_eff.targets import Target


def needed_features(target: Target) -> tuple[str, ...]:
    """Return the processor features that code for `target` may use, as Linux calls them."""
    from tvm.target import codegen

    made = target.tvm_target()
    processor = made if target.gpu is None else made.host
    enabled = {str(name) for name in codegen.llvm_get_cpu_features(processor)}
    known = target.architecture.linux_features
    return tuple(linux for llvm, linux in known.items() if llvm in enabled)


def incompatibility(target: MadeFor) -> str | None:
    """Return why code for `target` cannot run on this machine, or None if it can."""
    arch, system = architectures.of_this_process(), platform.system()
    if (target.arch, architectures.system_in(target.triple)) != (arch, system):
        return f"this machine is {system} on {arch}"
    present = processor_features()
    missing = [name for name in target.cpu_features if name not in present]
    if present and missing:
        return f"this machine's processor lacks {', '.join(missing)}"
    return None


def require_suitable(device: Device, name: str, arch: str, features: Sequence[str]) -> None:
    """Refuse a board that cannot run code before any is sent.

    Parameters
    ----------
    device
        Where the code is to run; it must be open.
    name
        The target's name.
    arch
        The architecture that the code is made for.
    features
        What it needs of the processor, as Linux calls it.

    Raises
    ------
    UnsuitableDeviceError
        The board runs programs of another architecture, or its processor lacks a feature.
    """
    found = device.architecture
    if found is None:
        return
    if found != arch:
        raise UnsuitableDeviceError(
            f"the board behind {device.where} runs programs for {found}, and {name} is for {arch}"
            + _targets_of(found)
        )
    present = set(device.identity.features.split())
    missing = [each for each in features if each not in present]
    if present and missing:
        raise UnsuitableDeviceError(
            f"the processor behind {device.where} lacks {', '.join(missing)}, which code for "
            f"{name} uses; give the --target of that processor"
        )


def _targets_of(arch: str) -> str:
    from tvm_eff import targets

    names = [
        each
        for each in targets.names()
        if not (known := targets.load(each)).is_host and known.architecture.name == arch
    ]
    return f"; targets for it: {', '.join(names)}" if names else ""
