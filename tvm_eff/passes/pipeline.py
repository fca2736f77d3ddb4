"""Every phase from the imported network to machine code, in order: the one page to read.

==================  ==========================================================================
phase               what it does
==================  ==========================================================================
``integers``        a quantized network computes in integers; any other one stays as it is
``canonicalize``    batch norm, scales and transposed convolutions in the forms that fuse
``layout``          activations channels-last, whole vectors of channels, perhaps float16
``fold_weights``    whatever depends on parameters alone is computed now
``fuse``            chains of convolutions, concatenation in place, then one PrimFunc a kernel
(schedules)         :mod:`tvm_eff.tune` finds a schedule for each kernel, and
                    :mod:`tvm_eff.deploy.library` applies the ones that won
``pack_weights``    weights in the layouts that the schedules chose, bound as constants
``lower_tir``       TVM's lowering of each PrimFunc, and our passes around it, then LLVM
==================  ==========================================================================

:func:`dumping` writes the module after each pass of every phase.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm.ir.instrument import DumpIR
from tvm.relax import transform
from tvm.tirx.compilation_pipeline import get_tir_pipeline, register_tir_pipeline

from tvm_eff.errors import UsageError, nearest
from tvm_eff.passes.network import RelaxNetwork
from tvm_eff.passes.relax.batch_norm import simplify_batch_norm
from tvm_eff.passes.relax.broadcasts import separate_broadcasts
from tvm_eff.passes.relax.channels_last import channels_last
from tvm_eff.passes.relax.concatenation import (
    concatenate_in_place,
    fuse_slice_writes,
    write_slices_in_place,
)
from tvm_eff.passes.relax.depthwise_chains import chain_depthwise
from tvm_eff.passes.relax.depthwise_multiplier import split_depthwise_multiplier
from tvm_eff.passes.relax.fold_scale import fold_scale
from tvm_eff.passes.relax.half_layers import half_layers
from tvm_eff.passes.relax.half_precision import half_precision
from tvm_eff.passes.relax.integer_kernels import read_integers
from tvm_eff.passes.relax.integers import in_integers, is_quantized
from tvm_eff.passes.relax.legalize import legalize_operators
from tvm_eff.passes.relax.narrow_indices import narrow_indices
from tvm_eff.passes.relax.pad_channels import pad_channels
from tvm_eff.passes.relax.parameters import (
    evaluate_parameters,
    leave_growing_transforms,
    parameter_sources,
)
from tvm_eff.passes.relax.transposed_convolution import rewrite_transposed_convolution
from tvm_eff.passes.tir.bool_casts import lower_bool_casts
from tvm_eff.passes.tir.half_arithmetic import compute_in_half
from tvm_eff.passes.tir.pointer_alignment import relax_pointer_alignment
from tvm_eff.passes.tir.predicate_removal import remove_predicates
from tvm_eff.passes.tir.stack_allocation import allocate_on_stack
from tvm_eff.passes.tir.tile_configuration import configure_tiles
from tvm_eff.passes.tir.vectorized_rounding import vectorize_rounding
from tvm_eff.passes.tir.weight_prefetch import prefetch_weights
from tvm_eff.targets import Target
from tvm_eff.tensors import MIXED

DTYPES = ("float32", "float16", "int8")
"""What a network's activations and weights can be stored as; int8 for a quantized one."""

CPU_PIPELINE, OPENCL_PIPELINE = "tvm_eff_cpu", "tvm_eff_opencl"
"""Names under which TVM finds the lowering of PrimFuncs, for processors and for OpenCL."""

Passes = Sequence[tvm.transform.Pass]


def canonicalize() -> Passes:
    """Return the passes that write operators in the forms that later phases match."""
    return [
        simplify_batch_norm,
        transform.DecomposeOpsForInference(),
        # An imported pooling is a tuple with its indices, which would hide the
        # layout from the passes behind.
        transform.CanonicalizeBindings(),
        transform.DeadCodeElimination(),
        fold_scale,
        rewrite_transposed_convolution,
        split_depthwise_multiplier,
    ]


def layout(target: Target, dtype: str) -> Passes:
    """Return the passes that decide how activations and weights are stored."""
    in_half = {"float16": [half_precision], MIXED: [half_layers]}.get(dtype, [])
    return [
        channels_last,
        transform.CanonicalizeBindings(),
        transform.DeadCodeElimination(),
        pad_channels(target.lanes_of("float16" if in_half else dtype)),
        *in_half,
    ]


def fuse(target: Target) -> Passes:
    """Return the passes that make kernels of operators."""
    return [
        # What was computed from constants for parameters alone is still here.
        transform.DeadCodeElimination(),
        chain_depthwise(target),
        concatenate_in_place,
        read_integers,
        legalize_operators(),
        transform.AnnotateTIROpPattern(),
        transform.FoldConstant(),
        separate_broadcasts,
        fuse_slice_writes,
        transform.FuseOps(),
        transform.FuseTIR(),
        # A reshape that nothing was fused with is another view of the same memory.
        transform.RewriteDataflowReshape(),
        transform.DeadCodeElimination(),
        transform.AttachAttrLayoutFreeBuffers(),
        narrow_indices(),
    ]


def lower_tir_cpu() -> Passes:
    """Return the lowering of processors' PrimFuncs."""
    lower, *_ = get_tir_pipeline("default")
    return [lower, allocate_on_stack, relax_pointer_alignment]


def lower_tir_opencl() -> Passes:
    """Return the lowering of a GPU's PrimFuncs and of what launches them.

    What the host allocates is the GPU's memory, which must not be on the host's stack.
    """
    lower, *_ = get_tir_pipeline("default")
    return [lower_bool_casts, lower, remove_predicates]


# LLVM finds common expressions and loops that do nothing as well: the code has as many
# instructions, or hardly more, and takes a tenth less time to build (docs/tvm-0.27.md).
CPU_DISABLED_PASSES = ("tirx.RemoveNoOp",)
CPU_CONFIG = {"tirx.disable_cse_tir": True}


def lower(network: RelaxNetwork, target: Target, dtype: str = "float32") -> RelaxNetwork:
    """Rewrite a network into calls of fused kernels: all phases up to ``fuse``.

    Activations become channels-last, output channels whole vectors of the target,
    whatever depends on parameters alone is computed now, and operators are fused.
    The kernels mark the parameters whose layout a schedule may choose.

    Parameters
    ----------
    network
        The network as imported, in float32 or quantized.
    target
        What it is compiled for.
    dtype
        What activations and weights are stored as. Inputs and outputs stay float32. What of
        float16 is computed in float32, :mod:`tvm_eff.passes.relax.half_precision` says; and
        of `MIXED` what is float16, :mod:`tvm_eff.passes.relax.half_layers`.

    Returns
    -------
    RelaxNetwork
        ``main`` calls PrimFuncs; its parameters are as the kernels read them.

    Raises
    ------
    UsageError
        The target does not compute in `dtype`.
    """
    needed = "int8" if is_quantized(network) else dtype
    require_dtype(target, "float16" if dtype == MIXED else needed)
    network = in_integers(network, target.dot_product)
    before = [*canonicalize(), *layout(target, dtype), transform.LiftTransformParams()]
    lifted = _run(network.mod, before)
    mod, params = evaluate_parameters(lifted, network.params)
    return replace(
        network,
        mod=_run(mod, fuse(target)),
        params=params,
        sources=names_of_sources(network, lifted),
    )


def names_of_sources(network: RelaxNetwork, lifted: tvm.IRModule) -> tuple[tuple[str, ...], ...]:
    """Return PyTorch's names of what each lifted parameter of a network is computed from."""
    known = dict(enumerate(network.sources))
    return tuple(
        tuple(dict.fromkeys(name for number in each for name in known.get(number, ())))
        for each in parameter_sources(lifted)
    )


def lift_weights(mod: tvm.IRModule) -> tvm.IRModule:
    """Split what packs the weights off from a lowered network whose kernels are scheduled."""
    split = [transform.SplitLayoutRewritePreproc()]
    return _run(write_slices_in_place(_run(mod, split)), [transform.LiftTransformParams()])


def pack_weights(
    mod: tvm.IRModule, params: Sequence[np.ndarray], *, at_load: bool = False
) -> tvm.IRModule:
    """Pack the weights as the applied schedules want them, and bind them as constants.

    Parameters
    ----------
    mod
        A lowered network whose kernels are scheduled.
    params
        Its parameters, in the order ``main`` takes them.
    at_load
        Whether ``main`` itself makes those that would be larger than the model's, in calls that
        depend on nothing else.

    Returns
    -------
    tvm.IRModule
        A module whose ``main`` takes the network's inputs alone.
    """
    lifted = lift_weights(mod)
    mod, packed = evaluate_parameters(lifted, params)
    # By variable: two lifted parameters may have the same name.
    variables = mod["main"].params[len(mod["main"].params) - len(packed) :]
    values = dict(zip(variables, map(tvm.runtime.tensor, packed), strict=True))
    if at_load:
        mod, made = leave_growing_transforms(lifted, params, packed)
        values = {each: value for each, value in values.items() if each not in made}
    bind = transform.BindParams("main", values)
    return _run(mod, [bind, transform.DeadCodeElimination(["main"])])


def tir_pipeline(target: Target) -> str:
    """Return the name under which TVM finds the lowering of a target's PrimFuncs."""
    return CPU_PIPELINE if target.gpu is None else OPENCL_PIPELINE


def tir_context(
    target: Target, config: Mapping[str, bool] | None = None
) -> tvm.transform.PassContext:
    """Return the options that a target's PrimFuncs are lowered with, and `config` besides."""
    if target.gpu is not None:
        return pass_context(config=config)
    return pass_context(
        disabled_pass=list(CPU_DISABLED_PASSES), config={**CPU_CONFIG, **(config or {})}
    )


def tir_description(opencl: bool) -> list[str]:
    """Return what PrimFuncs are lowered with, in words that change when it does."""
    passes = lower_tir_opencl() if opencl else lower_tir_cpu()
    names = ["prefetch_weights", *(str(each.info.name) for each in passes)]
    if opencl:
        return names
    return [*names, *(f"not {name}" for name in CPU_DISABLED_PASSES), str(sorted(CPU_CONFIG))]


_behind: ContextVar[Passes] = ContextVar("behind", default=())


@contextmanager
def behind_lowering(passes: Passes) -> Iterator[None]:
    """Run passes that only look behind a target's lowering of PrimFuncs."""
    token = _behind.set(passes)
    try:
        yield
    finally:
        _behind.reset(token)


def lower_calls(mod: tvm.IRModule) -> tvm.IRModule:
    """Give the kernels that ``main`` calls their destinations, which it allocates first.

    Parameters
    ----------
    mod
        A network whose weights are packed.
    """
    return _run(
        mod,
        [
            transform.LegalizeOps(),
            transform.RewriteDataflowReshape(),
            transform.ToNonDataflow(),
            transform.RemovePurityChecking(),
            transform.CallTIRRewrite(),
            transform.AttachGlobalSymbol(),
        ],
    )


def prepare_tir(mod: tvm.IRModule) -> tvm.IRModule:
    """Return scheduled PrimFuncs ready for :func:`tir_pipeline`."""
    return configure_tiles(prefetch_weights(compute_in_half(mod)))


_dump: ContextVar[DumpIR | None] = ContextVar("dump", default=None)


@contextmanager
def dumping(folder: Path | None) -> Iterator[None]:
    """Write the module after each pass into `folder`, numbered; do nothing if it is None.

    Raises
    ------
    UsageError
        The folder holds something already, or cannot be written.
    """
    if folder is None:
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        occupied = any(folder.iterdir())
    except OSError as error:
        raise UsageError(
            f"cannot write the IR to {folder}: {error.strerror}; name another --dump-ir FOLDER"
        ) from error
    if occupied:
        raise UsageError(f"{folder} is not empty; name a new folder: --dump-ir FOLDER")
    token = _dump.set(DumpIR(folder))
    try:
        yield
    finally:
        _dump.reset(token)


@contextmanager
def not_dumping() -> Iterator[None]:
    """Leave out of :func:`dumping` what is built beside the network."""
    token = _dump.set(None)
    try:
        yield
    finally:
        _dump.reset(token)


def pass_context(**options: Any) -> tvm.transform.PassContext:
    """Return a context of the optimization level that all phases run at."""
    dump = _dump.get()
    instruments = [] if dump is None else [dump]
    return tvm.transform.PassContext(opt_level=3, instruments=instruments, **options)


def require_dtype(target: Target, dtype: str) -> None:
    """Refuse a dtype that networks cannot be lowered to for a target.

    Raises
    ------
    UsageError
        It is none of :data:`DTYPES`, or the target does not compute in it.
    """
    if dtype not in DTYPES:
        raise UsageError(f"unknown dtype '{dtype}'{nearest(dtype, DTYPES)}")
    if dtype == "float32" or (dtype == "int8" and target.gpu is None):
        return
    if dtype == "int8":
        raise UsageError(
            f"{target.name} runs networks on the GPU, which does not compute in int8; leave "
            "--dtype out and give a network in float32, or name a target without a GPU"
        )
    if target.float16:
        return
    if target.gpu is None:
        raise UsageError(
            f"{target.name} runs networks on a processor without arithmetic in {dtype} "
            f"(Armv8.2's fullfp16; {target.tvm['mcpu']} has none); leave {dtype} out, or name a "
            "target that has it, such as rasp5 or rk3399-mali"
        )
    raise UsageError(
        f"the GPU of {target.name} does not compute in {dtype}: {target.path} says "
        "so under [gpu]; use float32"
    )


def _run(mod: tvm.IRModule, passes: Passes) -> tvm.IRModule:
    with pass_context():
        return tvm.transform.Sequential(list(passes))(mod)


def _register(name: str, passes: Callable[[], Passes]) -> None:
    def pipeline() -> tuple[object, object, object]:
        _, finish_host, finish_device = get_tir_pipeline("default")
        lowering = tvm.ir.transform.Sequential([*passes(), *_behind.get()])
        return lowering, finish_host, finish_device

    register_tir_pipeline(name, pipeline)


vectorize_rounding()
_register(CPU_PIPELINE, lower_tir_cpu)
_register(OPENCL_PIPELINE, lower_tir_opencl)
