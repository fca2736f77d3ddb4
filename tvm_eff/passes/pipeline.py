"""The order of the graph passes, from the imported network to fused kernels."""

from __future__ import annotations

from dataclasses import replace

import tvm
from tvm.relax import transform

from tvm_eff.errors import UsageError, nearest
from tvm_eff.passes.network import RelaxNetwork
from tvm_eff.passes.relax.batch_norm import simplify_batch_norm
from tvm_eff.passes.relax.broadcasts import separate_broadcasts
from tvm_eff.passes.relax.channels_last import channels_last
from tvm_eff.passes.relax.concatenation import concatenate_in_place, fuse_slice_writes
from tvm_eff.passes.relax.depthwise_chains import chain_depthwise
from tvm_eff.passes.relax.depthwise_multiplier import split_depthwise_multiplier
from tvm_eff.passes.relax.fold_scale import fold_scale
from tvm_eff.passes.relax.half_precision import half_precision
from tvm_eff.passes.relax.narrow_indices import narrow_indices
from tvm_eff.passes.relax.pad_channels import pad_channels
from tvm_eff.passes.relax.parameters import evaluate_parameters
from tvm_eff.passes.relax.transposed_convolution import rewrite_transposed_convolution
from tvm_eff.targets import Target

DTYPES = ("float32", "float16")
"""What a network's activations and weights can be stored as."""


def require_dtype(target: Target, dtype: str) -> None:
    """Refuse a dtype that networks cannot be lowered to for a target.

    Raises
    ------
    UsageError
        It is none of :data:`DTYPES`, or the target does not compute in it.
    """
    if dtype not in DTYPES:
        raise UsageError(f"unknown dtype '{dtype}'{nearest(dtype, DTYPES)}")
    if dtype == "float32":
        return
    if target.gpu is None:
        raise UsageError(
            f"{target.name} runs networks on the processor, in float32 only; "
            f"leave {dtype} out, or name a target with a GPU, such as rk3399-mali"
        )
    if not target.gpu.float16:
        raise UsageError(
            f"the GPU of {target.name} does not compute in {dtype}: {target.path} says "
            "so under [gpu]; use float32"
        )


def lower(network: RelaxNetwork, target: Target, dtype: str = "float32") -> RelaxNetwork:
    """Rewrite a network into calls of fused kernels.

    Activations become channels-last, output channels whole vectors of the target,
    whatever depends on parameters alone is computed now, and operators are fused.
    The kernels mark the parameters whose layout a schedule may choose.

    Parameters
    ----------
    network
        The network as imported, in float32.
    target
        What it is compiled for.
    dtype
        What activations and weights are stored as. Inputs and outputs stay float32, and
        float16 is computed in float32 where
        :mod:`tvm_eff.passes.relax.half_precision` says so.

    Returns
    -------
    RelaxNetwork
        ``main`` calls PrimFuncs; its parameters are as the kernels read them.

    Raises
    ------
    UsageError
        The target does not compute in `dtype`.
    """
    require_dtype(target, dtype)
    mod = _run(
        network.mod,
        simplify_batch_norm,
        transform.DecomposeOpsForInference(),
        # An imported pooling is a tuple with its indices, which would hide the
        # layout from the passes behind.
        transform.CanonicalizeBindings(),
        transform.DeadCodeElimination(),
        fold_scale,
        rewrite_transposed_convolution,
        split_depthwise_multiplier,
        channels_last,
        transform.CanonicalizeBindings(),
        transform.DeadCodeElimination(),
        pad_channels(target.lanes),
        *([half_precision] if dtype == "float16" else []),
        transform.LiftTransformParams(),
    )
    mod, params = evaluate_parameters(mod, network.params)
    mod = _run(
        mod,
        # What was computed from constants for parameters alone is still here.
        transform.DeadCodeElimination(),
        chain_depthwise(target),
        concatenate_in_place,
        transform.LegalizeOps(),
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
    )
    return replace(network, mod=mod, params=params)


def _run(mod: tvm.IRModule, *passes: tvm.transform.Pass) -> tvm.IRModule:
    with tvm.transform.PassContext(opt_level=3):
        return tvm.transform.Sequential(list(passes))(mod)
