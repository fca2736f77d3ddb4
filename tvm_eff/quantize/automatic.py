"""``--dtype auto``: observe, choose each layer's precision, convert, and check what came out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tvm_eff.errors import ModelError
from tvm_eff.models import Program, Sample
from tvm_eff.quantize.calibrate import Activations, Quantized, convert, observe
from tvm_eff.quantize.choose import Chooser, Done, LayerChoice, precisions_of
from tvm_eff.quantize.criterion import Metric, require_metric
from tvm_eff.quantize.layer_cost import CostModel
from tvm_eff.quantize.observed import Observed, described
from tvm_eff.quantize.precision import Precision, Precisions, layers_in

MOST_COMPARED = 256
"""Samples, at most, on which the loss is measured."""


@dataclass(frozen=True)
class Choice:
    """The precision of each layer, and what that loses.

    Attributes
    ----------
    layers
        What was found for each layer, in order.
    criterion
        What falls, in words.
    before, after
        Its score for float32, and for the network as it is converted.
    max_drop
        How far it was allowed to fall.
    compared
        On how many samples that was measured.
    """

    layers: tuple[LayerChoice, ...]
    criterion: str
    before: float
    after: float
    max_drop: float
    compared: int


def quantize_where_allowed(
    program: Program,
    samples: Iterable[Sample],
    source: str,
    activations: Activations,
    max_drop: float,
    metric: Metric | None,
    model: CostModel,
    done: Done = lambda what, count: None,
) -> tuple[Quantized, Choice]:
    """Take the layers that save most to int8 or float16, as many as the loss allows.

    Parameters
    ----------
    program, samples, source, activations
        As for :func:`tvm_eff.quantize.quantize`.
    max_drop
        How much may be lost, as a share of 1.
    metric
        The user's own measure of outputs and labels; see
        :func:`tvm_eff.quantize.criterion.criterion_of`.
    model
        What layers cost.
    done
        Told what is done, and how much of it.

    Returns
    -------
    tuple
        The network, with every layer in float32 if none can be in another precision, and what was
        found.

    Raises
    ------
    Error
        As for :func:`tvm_eff.quantize.quantize`, and for the criterion.
    """

    def observed_one(count: int) -> None:
        done("samples", count)

    require_metric(metric)
    observed = observe(program, samples, source, activations, observed_one, MOST_COMPARED)
    chooser = Chooser(observed, max_drop, metric, model, done)
    taken, criterion = chooser.choose(), chooser.criterion
    while True:
        found = _converted(observed, precisions_of(taken))
        score = criterion.score(_outputs(found.program, observed.samples, done))
        if not taken or criterion.before - score <= max_drop:
            break
        # What was simulated differs from what is converted by values halfway between integers.
        taken = taken[:-1]
    table = chooser.table(precisions_of(taken))
    choice = Choice(
        table, criterion.words, criterion.before, score, max_drop, len(observed.samples)
    )
    return found, choice


def quantize_as_chosen(
    program: Program,
    samples: Iterable[Sample] | None,
    source: str | None,
    activations: Activations,
    precisions: Sequence[tuple[str, Precision]],
) -> Quantized:
    """Take the layers to what was chosen for them before, on the same data.

    Parameters
    ----------
    program, samples, source, activations
        As for :func:`tvm_eff.quantize.quantize`.
    precisions
        Each layer as :class:`LayerChoice` has it, and what it is computed in.

    Raises
    ------
    Error
        As for :func:`tvm_eff.quantize.quantize`.
    ModelError
        The network has other layers.
    """
    observed = observe(program, samples, source, activations)
    found, wanted = [described(each) for each in observed.layers], [each for each, _ in precisions]
    if found != wanted:
        other = next((a for a, b in zip(wanted, found, strict=False) if a != b), "the last ones")
        raise ModelError(
            f"{program.network.name} has {len(found)} layers that integers can compute, and "
            f"{len(wanted)} were chosen among, such as {other}: it is another network"
        )
    chosen = zip(observed.layers, precisions, strict=True)
    return _converted(observed, {node.name: each for node, (_, each) in chosen})


def _converted(observed: Observed, precisions: Precisions) -> Quantized:
    return convert(observed, layers_in("int8", precisions), layers_in("float16", precisions))


def _outputs(program: Program, samples: Iterable[Sample], done: Done) -> list[list[np.ndarray]]:
    found = []
    for count, sample in enumerate(samples, 1):
        found.append(program.run(sample.inputs))
        done("samples checked", count)
    return found
