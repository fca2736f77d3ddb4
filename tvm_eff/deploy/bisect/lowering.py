"""Is a network as lowered still PyTorch's, before any schedule? If not, which kernel is not?

Between the import, which :mod:`tvm_eff.deploy.proof` checks, and the schedules, which the tuner
checks, stand the passes on Relax: one that drops an activation makes a kernel that every
schedule computes as it is, wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tvm_eff.deploy.bisect.origins import Origin, Origins
from tvm_eff.deploy.bisect.reference import KernelCall, Reference


@dataclass(frozen=True)
class WrongKernel:
    """A kernel that is wrong as lowered.

    Attributes
    ----------
    number
        Its place in the network.
    call
        It, with PyTorch's value as what it should write.
    origin
        The operator whose value that is.
    """

    number: int
    call: KernelCall
    origin: Origin


def operators_of(call: KernelCall, origins: Origins, output: Origin | None = None) -> list[str]:
    """Return PyTorch's operators that a kernel computes; none if its value is not PyTorch's."""
    before = _inputs(call, origins)
    output = origins.find(call.outputs[0][call.slice], before) if output is None else output
    return [] if output is None else origins.operators(before, output)


def find_wrong(reference: Reference, origins: Origins) -> WrongKernel | None:
    """Return the first kernel of a wrong network from which on nothing is PyTorch's.

    A kernel that is right may compute none of PyTorch's values, but then a kernel that reads
    it does, directly or not.
    """
    calls = reference.calls
    found = [origins.find(each.outputs[0][each.slice]) for each in calls]
    good = [each is not None for each in found]
    for number in reversed(range(len(calls))):
        for source in _sources(calls[number]) if good[number] else ():
            good[source] = True
    if all(good):
        return None
    number = good.index(False)
    return _dropped_before(number, calls, found, origins) or _nearest(number, calls, origins)


def _dropped_before(
    number: int, calls: Sequence[KernelCall], found: Sequence[Origin | None], origins: Origins
) -> WrongKernel | None:
    """A kernel that ends too early: with a later value of PyTorch's, what reads it is right."""
    call = calls[number]
    for place, sources in enumerate(call.sources):
        for source in sources:
            origin, writer = found[source], calls[source]
            for later in origins.later(origin) if origin is not None else ():
                corrected = _corrected(writer, later, origins)
                if corrected is None or corrected.outputs[0].size != call.inputs[place].size:
                    continue
                inputs = list(call.inputs)
                inputs[place] = _overlaid(inputs[place], corrected)
                outputs = call.recomputed(inputs)
                if origins.find(outputs[0][call.slice]) is not None:
                    return WrongKernel(source, corrected, later)
    return None


def _nearest(number: int, calls: Sequence[KernelCall], origins: Origins) -> WrongKernel | None:
    call = calls[number]
    nearest = origins.nearest(call.outputs[0][call.slice], _inputs(call, origins))
    corrected = None if nearest is None else _corrected(call, nearest, origins)
    return None if nearest is None or corrected is None else WrongKernel(number, corrected, nearest)


def _corrected(call: KernelCall, origin: Origin, origins: Origins) -> KernelCall | None:
    """The call, with PyTorch's value of an operator as what it should write."""
    part = origins.laid_out(origin, call.outputs[0][call.slice])
    if part is None:
        return None
    output = call.outputs[0].copy()
    output[call.slice] = part
    return replace(call, outputs=[output, *call.outputs[1:]])


def _overlaid(tensor: np.ndarray, call: KernelCall) -> np.ndarray:
    """A tensor with what a call writes of it."""
    whole = tensor.copy().reshape(call.outputs[0].shape)
    whole[call.slice] = call.outputs[0][call.slice]
    return whole.reshape(tensor.shape)


def _inputs(call: KernelCall, origins: Origins) -> list[Origin]:
    return [each for each in map(origins.find, call.inputs) if each is not None]


def _sources(call: KernelCall) -> set[int]:
    return {each for sources in call.sources for each in sources}
