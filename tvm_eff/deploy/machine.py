"""Can code that was made for a target run on this machine?"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from tvm_eff.deploy.manifest import MadeFor
from tvm_eff.targets import architectures
from tvm_eff.targets.detect import processor_features

if TYPE_CHECKING:
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
