"""The network that a library is built from, in float32 or quantized, and what it is judged by."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import torch

from tvm_eff import frontend, models, quantize
from tvm_eff.deploy.manifest import (
    LayerPrecision,
    PrecisionChoice,
    QuantizationInfo,
    Validation,
)
from tvm_eff.errors import UsageError
from tvm_eff.models import Program
from tvm_eff.passes import RelaxNetwork
from tvm_eff.targets import Target
from tvm_eff.tensors import MIXED, network_tolerance

logger = logging.getLogger(__name__)

_RANDOM = (
    "calibrated on random inputs: the accuracy of this library means nothing; give inputs like "
    "those in use: --calibrate DATA"
)


@dataclass(frozen=True)
class Precision:
    """What a network is to be computed in.

    Attributes
    ----------
    dtype
        ``float32``, ``float16`` or ``int8``; or ``auto``, to choose layer by layer.
    calibrate
        Data that int8 takes the ranges of activations from; None for random inputs.
    max_drop
        What choosing may lose, as a share of 1.
    metric
        The user's own measure of that; None for what the data allows for.
    """

    dtype: str
    calibrate: models.Samples | None = None
    max_drop: float = 0.0
    metric: quantize.Metric | None = None


@dataclass(frozen=True)
class Source:
    """A network, traced and imported.

    Attributes
    ----------
    program
        What the library must compute; a quantized one runs exactly.
    core
        It in core operators.
    imported
        It in Relax.
    dtype
        What it computes in.
    original
        It in float32, before it was quantized here; None if it was not.
    quantization
        How that was done.
    """

    program: Program
    core: torch.export.ExportedProgram
    imported: RelaxNetwork
    dtype: str
    original: Program | None = None
    quantization: QuantizationInfo | None = None

    @property
    def tolerance(self) -> float:
        """The largest error allowed, as a fraction of the spread of the output.

        Integers are exact. Where something is computed in float32 or float16 between them, its last
        bits decide values halfway between two integers, and more is allowed of an input that has
        some: see :meth:`tvm_eff.quantize.QuantizedProgram.moved_by_chance`.
        """
        return network_tolerance(self.dtype)


def source_of(program: Program, dtype: str) -> Source:
    """Return a traced network as it is; one that is quantized already computes in int8.

    One of our own that rounds to float16 is :data:`tvm_eff.tensors.MIXED`.

    Raises
    ------
    ModelError
        As for :func:`tvm_eff.frontend.decompose` and :func:`tvm_eff.frontend.import_program`.
    """
    core = frontend.decompose(program)
    imported = frontend.import_program(program, core)
    if frontend.rounds_to_half(program.exported):
        return Source(quantize.exact(program, core), core, imported, MIXED)
    if frontend.is_quantized(program.exported):
        return Source(quantize.exact(program, core), core, imported, "int8")
    return Source(program, core, imported, dtype)


def quantized_source(
    original: Program,
    target: Target,
    data: models.Samples | None,
    done: Callable[[int], None],
) -> Source:
    """Quantize a traced network for a target.

    Parameters
    ----------
    original
        The network in float32.
    target
        What it is compiled for.
    data
        What the ranges of activations are taken from; None for random inputs.
    done
        Told how many samples are done.

    Raises
    ------
    Error
        As for :func:`tvm_eff.quantize.quantize` and :func:`tvm_eff.models.read_samples`.
    """
    samples, name = None, None
    if data is not None:
        samples = models.read_samples(data, original.network.inputs, original.inputs)
        name = models.source_of(data)
    found = quantize.quantize(original, samples, name, _activations(target), done)
    if name is None:
        logger.warning("%s is %s", original.network.name, _RANDOM)
    return _source(original, found, None)


def chosen_source(
    original: Program,
    target: Target,
    precision: Precision,
    done: Callable[[str, int], None],
) -> Source:
    """Take those layers of a traced network to int8 or float16 whose loss is allowed.

    Parameters
    ----------
    original, target
        As for :func:`quantized_source`.
    precision
        Data to measure the loss on, and how much is allowed.
    done
        Told what is done, and how much of it.

    Raises
    ------
    Error
        As for :func:`tvm_eff.quantize.quantize_where_allowed`.
    """
    data, max_drop = precision.calibrate, precision.max_drop
    assert data is not None, "without data nothing can be chosen"
    found, chosen = quantize.quantize_where_allowed(
        original,
        models.read_samples(data, original.network.inputs, original.inputs),
        models.source_of(data),
        _activations(target),
        max_drop,
        precision.metric,
        quantize.cost_model(target),
        done,
    )
    choice = PrecisionChoice(
        criterion=chosen.criterion,
        samples=chosen.compared,
        before=chosen.before,
        after=chosen.after,
        max_drop=max_drop,
        layers=tuple(LayerPrecision(**asdict(each)) for each in chosen.layers),
    )
    return _source(original, found, choice)


def same_source(
    original: Program, target: Target, data: models.Samples | None, known: Validation
) -> Source:
    """Return a traced network as a bundle was built from it.

    Parameters
    ----------
    original, target, data
        As for :func:`quantized_source`.
    known
        What the bundle's manifest says of it.

    Raises
    ------
    UsageError
        It was calibrated on data that is not given, or on none.
    Error
        As for :func:`quantized_source`.
    """
    info = known.quantization
    _require_same_data(original, data, info)
    if info is None:
        return source_of(original, known.dtype)
    if info.choice is None:
        return quantized_source(original, target, data, lambda count: None)
    assert data is not None, "without data nothing was chosen"
    found = quantize.quantize_as_chosen(
        original,
        models.read_samples(data, original.network.inputs, original.inputs),
        models.source_of(data),
        _activations(target),
        [(each.layer, each.precision) for each in info.choice.layers],
    )
    return _source(original, found, None)


def _require_same_data(
    original: Program, data: models.Samples | None, info: QuantizationInfo | None
) -> None:
    name, source = original.network.name, None if info is None else info.source
    if data is None and source is not None:
        raise UsageError(
            f"{name} was calibrated on {source} when the bundle was built; give the same data: "
            "--calibrate DATA"
        )
    if data is not None and source is None:
        how = "was not quantized" if info is None else "was calibrated on random inputs"
        raise UsageError(f"{name} {how} when the bundle was built; leave --calibrate out")


def _activations(target: Target) -> quantize.Activations:
    # VNNI multiplies bytes without a sign by bytes with one; NEON both with one.
    return "uint8" if target.architecture.name == "x86_64" else "int8"


def _source(original: Program, found: quantize.Quantized, choice: PrecisionChoice | None) -> Source:
    source = source_of(found.program, "int8" if found.integers else "float32")
    info = QuantizationInfo(
        source=found.source,
        samples=found.samples,
        sqnr_db=found.loss.sqnr_db,
        same_class=found.loss.same_class,
        in_float32=found.in_float32,
        warning=_RANDOM if found.source is None else None,
        choice=choice,
    )
    return replace(source, original=original, quantization=info)
