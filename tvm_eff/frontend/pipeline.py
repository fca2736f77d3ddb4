"""The order of the graph passes, from the imported network to fused kernels."""

from __future__ import annotations

from dataclasses import replace

import tvm
from tvm.relax import transform

from tvm_eff.frontend.importer import Imported
from tvm_eff.frontend.parameters import evaluate_parameters
from tvm_eff.frontend.passes.batch_norm import simplify_batch_norm
from tvm_eff.frontend.passes.broadcasts import separate_broadcasts
from tvm_eff.frontend.passes.channels_last import channels_last
from tvm_eff.frontend.passes.concatenation import fuse_places, place_concatenated
from tvm_eff.frontend.passes.depthwise_multiplier import split_depthwise_multiplier
from tvm_eff.frontend.passes.fold_scale import fold_scale
from tvm_eff.frontend.passes.half_precision import half_precision
from tvm_eff.frontend.passes.narrow_indices import narrow_indices
from tvm_eff.frontend.passes.pad_channels import pad_channels
from tvm_eff.frontend.passes.transposed_convolution import rewrite_transposed_convolution
from tvm_eff.targets import Target


def lower(network: Imported, target: Target, dtype: str = "float32") -> Imported:
    """Rewrite a network into calls of fused kernels.

    Activations become channels-last, output channels whole vectors of the target,
    whatever depends on parameters alone is computed now, and operators are fused.
    The kernels mark the parameters whose layout a schedule may choose.

    Returns
    -------
    Imported
        ``main`` calls PrimFuncs; its parameters are as the kernels read them.
    """
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
        place_concatenated,
        transform.LegalizeOps(),
        transform.AnnotateTIROpPattern(),
        transform.FoldConstant(),
        separate_broadcasts,
        fuse_places,
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
