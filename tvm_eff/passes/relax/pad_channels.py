"""Pad the output channels of convolutions to whole vectors.

A layer of 1000 classes is 62.5 vectors of 16: no tile divides it, and LLVM generates
poor code for odd vectors. With the weight padded by zeros it is 63 whole vectors, and
the extra channels are sliced off afterwards. A layer to which that would add more than
a tenth of the work is not padded.
"""

from __future__ import annotations

import tvm
from tvm import relax
from tvm.relax.dpl import is_op, rewrite_call, wildcard

MAX_EXTRA = 0.1
"""Largest fraction of channels that padding may add."""


def pad_channels(lanes: int) -> tvm.transform.Pass:
    """Return the pass for vectors of `lanes` elements.

    It expects channels-last convolutions with weights in OHWI.
    """
    data, weight = wildcard(), wildcard()
    pattern = is_op("relax.nn.conv2d")(data, weight)

    def rewrite(call: relax.Call, matches: dict[object, relax.Expr]) -> relax.Expr:
        channels = int(call.ty.shape[3])
        padded = -(-channels // lanes) * lanes
        wasteful = padded - channels > MAX_EXTRA * channels
        if padded == channels or wasteful or call.attrs.groups != 1:
            return call
        wide = relax.op.nn.pad(matches[weight], [0, padded - channels, 0, 0, 0, 0, 0, 0])
        whole = relax.Call(call.op, [matches[data], wide], call.attrs)
        return relax.op.strided_slice(whole, axes=[3], begin=[0], end=[channels])

    @tvm.ir.transform.module_pass(opt_level=0, name="PadChannels")
    def run(mod: tvm.IRModule, _: tvm.transform.PassContext) -> tvm.IRModule:
        mod = mod.clone()
        mod["main"] = rewrite_call(pattern, rewrite, mod["main"])
        return relax.transform.Normalize()(mod)

    return run
