"""What runs in a builder's worker process: schedule and compile one candidate."""

from __future__ import annotations

import atexit
import ctypes
import gc
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import spawn
from pathlib import Path

import numpy as np
import tvm
from tvm.tirx import PrimFunc
from tvm_ffi.serialization import from_json_graph_str

from tvm_eff import schedules
from tvm_eff.codegen import build_kernel
from tvm_eff.targets import Target
from tvm_eff.tensors import TensorSpec, unwritten
from tvm_eff.tune.checker import kernel_inputs

# A process that has imported TVM looks through all of its objects as it ends, for half a
# second: of the session, and of the server that its workers are forked from, which imports
# this module. Ctrl-C should not wait for that.
atexit.register(gc.freeze)


class ScriptReachedSessionError(BaseException):
    """A worker that imports the user's script came to where that starts a session itself."""


def leave_script() -> None:
    """End the import of the user's script if this is a worker that imports it.

    Workers import the script that the session was started from, for what it defines, such as
    a rule of its own. Without ``if __name__ == "__main__":`` each would start a session too.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise ScriptReachedSessionError


def _up_to_session(original: Callable[[str], None]) -> Callable[[str], None]:
    def fixup(script: str) -> None:
        # What was typed or piped in is no file.
        if Path(script).name.startswith("<"):
            return
        with suppress(ScriptReachedSessionError):
            original(script)

    return fixup


# Workers are forked from a server that has imported this module.
spawn._fixup_main_from_path = _up_to_session(  # type: ignore[attr-defined]
    spawn._fixup_main_from_path  # type: ignore[attr-defined]
)
spawn._fixup_main_from_name = _up_to_session(  # type: ignore[attr-defined]
    spawn._fixup_main_from_name  # type: ignore[attr-defined]
)

_PR_SET_PDEATHSIG = 1  # linux/prctl.h

MIN_MEMORY = 4 << 30
"""Bytes a worker may take in any case: LLVM needs some hundred million for a large kernel."""


def prepare() -> None:
    """Make this process one that takes not too much memory and ends with its session."""
    limit_memory()
    _end_with_parent()


def _end_with_parent() -> None:
    """Have the system kill this process when the server that it was forked from ends.

    That ends with the session, also if the session is killed, and a build may be long.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
        if os.getppid() == 1:  # it has ended meanwhile
            os._exit(1)


def limit_memory() -> None:
    """Keep this process to a quarter of the machine's memory.

    A build that wants all of it fails then, before the system ends it or another process.
    """
    if sys.platform != "linux":
        return
    import resource

    page = os.sysconf("SC_PAGE_SIZE")
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * page
    allowed = mapped + max(MIN_MEMORY, os.sysconf("SC_PHYS_PAGES") * page // 4)
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    if most == resource.RLIM_INFINITY or allowed < most:
        resource.setrlimit(resource.RLIMIT_AS, (allowed, most))


@dataclass(frozen=True)
class BuildJob:
    """A candidate to build; all of it can be sent to another process.

    Attributes
    ----------
    module
        The kernel as TVM's JSON, under the name ``main``.
    candidate
        How to schedule it.
    target
        What to build for.
    library
        Where to write the library.
    """

    module: str
    candidate: schedules.Candidate
    target: Target
    library: Path


@lru_cache(maxsize=8)
def _load_function(module: str) -> PrimFunc:
    # Not tvm.ir.load_json: what it does for files of other versions takes most of the time.
    return from_json_graph_str(module)["main"]


def build(job: BuildJob) -> Path:
    """Build one candidate and return its library."""
    sch = schedules.apply(_load_function(job.module), job.candidate, job.target)
    build_kernel(sch, job.target, job.library)
    return job.library


def reference(
    module: str, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
) -> list[np.ndarray]:
    """Run the unscheduled function here on the inputs that candidates are checked with."""
    # Checks of arguments would be most of what LLVM compiles.
    with tvm.transform.PassContext(config={"tirx.disable_assert": True}):
        built = tvm.tirx.build(from_json_graph_str(module), target="llvm")
    arguments = [tvm.runtime.tensor(x) for x in kernel_inputs(inputs)]
    # As on the device: what the function leaves alone must be equal there and here.
    results = [tvm.runtime.tensor(unwritten(spec)) for spec in outputs]
    built["main"](*arguments, *results)
    return [result.numpy() for result in results]
