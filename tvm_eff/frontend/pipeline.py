"""The order of the graph passes, from the imported network to fused kernels."""

from __future__ import annotations

from dataclasses import replace

import tvm
from tvm.relax import transform

from tvm_eff.frontend.importer import Imported
from tvm_eff.frontend.parameters import evaluate_parameters
from tvm_eff.frontend.passes.narrow_indices import narrow_indices
from tvm_eff.frontend.passes.pad_channels import pad_channels
from tvm_eff.targets import Target

CHANNELS_LAST = {"relax.nn.conv2d": ["NHWC", "OHWI"]}


def lower(network: Imported, target: Target) -> Imported:
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
        transform.DecomposeOpsForInference(),
        # An imported pooling is a tuple with its indices, which would hide the
        # layout from the next pass.
        transform.CanonicalizeBindings(),
        transform.DeadCodeElimination(),
        transform.ConvertLayout(CHANNELS_LAST),
        transform.Normalize(),
        transform.CanonicalizeBindings(),
        transform.DeadCodeElimination(),
        pad_channels(target.hardware.lanes),
        transform.LiftTransformParams(),
    )
    mod, params = evaluate_parameters(mod, network.params)
    mod = _run(
        mod,
        transform.LegalizeOps(),
        transform.AnnotateTIROpPattern(),
        transform.FoldConstant(),
        transform.FuseOps(),
        transform.FuseTIR(),
        transform.DeadCodeElimination(),
        transform.AttachAttrLayoutFreeBuffers(),
        narrow_indices(),
    )
    return replace(network, mod=mod, params=params)


def _run(mod: tvm.IRModule, *passes: tvm.transform.Pass) -> tvm.IRModule:
    with tvm.transform.PassContext(opt_level=3):
        return tvm.transform.Sequential(list(passes))(mod)
