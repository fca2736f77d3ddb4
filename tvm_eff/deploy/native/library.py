"""A lowered network and its winners as a native library, which needs nothing but libc."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tvm_eff.codegen import native
from tvm_eff.codegen.archive import StaticArchive, build_archive
from tvm_eff.deploy import machine
from tvm_eff.deploy.library import Winners, schedule_kernels
from tvm_eff.deploy.native import source
from tvm_eff.deploy.native.plan import Plan
from tvm_eff.deploy.native.planner import NotStraightError, plan
from tvm_eff.deploy.native.source import Description
from tvm_eff.models import Program
from tvm_eff.passes import RelaxNetwork, pipeline
from tvm_eff.scratch import scratch_folder
from tvm_eff.targets import Target


def obstacle(network: RelaxNetwork, target: Target) -> str | None:
    """Return why a network needs TVM's virtual machine, in words; None if it does not."""
    if target.gpu is not None:
        return "its kernels run on a GPU"
    if "linux" not in target.toolchain.triple:
        return f"native libraries are for Linux, and {target.name} is not"
    try:
        with pipeline.not_dumping(), target.tvm_target():
            plan(pipeline.lower_calls(pipeline.pack_weights(network.mod, network.params)))
    except NotStraightError as error:
        return f"it has {error}"
    return None


def build_native_library(
    program: Program,
    network: RelaxNetwork,
    winners: Winners | None,
    target: Target,
    library: Path,
    *,
    archive: StaticArchive | None = None,
    at_load: bool = False,
    modules: Mapping[str, Sequence[str]] | None = None,
) -> Plan:
    """Apply the winners, pack the weights, plan, compile and link.

    Parameters
    ----------
    program
        The traced network, for the names of its tensors.
    network
        It, lowered.
    winners
        For each of its kernels, what it is scheduled by; None leaves all as imported.
    target
        What the library is for: a processor, not a GPU.
    library
        The shared library to write: see ``runtime/native/tvm_eff.h`` for its interface.
    archive
        The static archive to write beside it, if any.
    at_load
        Whether weights that are larger as kernels read them are made when it is loaded.
    modules
        PyTorch's modules whose parameters kernels take, by the kernels' names as lowered, for
        profiles.

    Returns
    -------
    Plan
        What it does.

    Raises
    ------
    NotStraightError
        The network needs the virtual machine.
    BuildError
        As for :func:`tvm_eff.deploy.library.build_library`.
    """
    mod = network.mod if winners is None else schedule_kernels(network.mod, winners, target)
    weights = pipeline.pack_weights(mod, network.params, at_load=at_load)
    packed = pipeline.prepare_tir(weights)
    with target.tvm_target():
        calls = pipeline.lower_calls(packed)
    planned = plan(calls)
    with scratch_folder() as folder:
        objects, workspace = native.compile_kernels(calls, target, folder)
        described = Description(
            name=program.network.name,
            target=target.name,
            inputs=program.inputs,
            outputs=program.outputs,
            features=tuple(machine.needed_features(target)),
            shared_workspace=workspace.shared,
            thread_workspace=workspace.each_thread,
            modules=modules or {},
        )
        sources = source.write_sources(planned, described, folder)
        native.link_library(sources, objects, target, library)
        if archive is not None:
            build_archive(archive, sources, objects, target)
    return planned
