"""What a manifest says of how near a library came to PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tvm_eff.strict import Count, Finite


@dataclass(frozen=True)
class DataValidation:
    """How the library did on a user's own data.

    Attributes
    ----------
    source
        The name of the folder, file or function.
    samples
        How many there were.
    largest_error
        The largest error against PyTorch found.
    same_class
        The share of inputs whose highest class score is PyTorch's; None if the first output is
        no row of class scores.
    top1, pytorch_top1
        The share of inputs whose highest class score is the label's, the library's and PyTorch's;
        None without labels.
    """

    source: str
    samples: Count
    largest_error: Finite
    same_class: Finite | None
    top1: Finite | None
    pytorch_top1: Finite | None


@dataclass(frozen=True)
class LayerPrecision:
    """What a layer is computed in, of those that integers could compute.

    Attributes
    ----------
    layer
        The operator and its module.
    precision
        ``float32``, ``float16`` or ``int8``.
    sqnr_db
        The ratio of signal to noise of the outputs if it alone is in int8, in decibels.
    cost_before, cost_after
        What it costs in float32 and as it is, in multiply-adds of float32: see
        :mod:`tvm_eff.quantize.layer_cost`.
    sqnr_float16_db
        The ratio of signal to noise if it alone is in float16; None where that is not offered.
    not_float16
        Why it is not offered for this layer; None if it is, or not by the processor.
    """

    layer: str
    precision: Literal["float32", "float16", "int8"]
    sqnr_db: Finite
    cost_before: Finite
    cost_after: Finite
    sqnr_float16_db: Finite | None = None
    not_float16: str | None = None


@dataclass(frozen=True)
class PrecisionChoice:
    """How the precision of each layer was chosen.

    Attributes
    ----------
    criterion
        What was not to fall, in words.
    samples
        On how many samples that was measured.
    before, after
        What it is for float32, and for this network.
    max_drop
        How far it was allowed to fall.
    layers
        What was found for each layer, in order.
    """

    criterion: str
    samples: Count
    before: float
    after: float
    max_drop: Finite
    layers: tuple[LayerPrecision, ...]

    @property
    def cost_before(self) -> float:
        """What these layers cost in float32."""
        return sum(each.cost_before for each in self.layers)

    @property
    def cost_after(self) -> float:
        """What they cost as they are."""
        return sum(each.cost_after for each in self.layers)


@dataclass(frozen=True)
class QuantizationInfo:
    """How a network was quantized, and how far that took it from float32.

    Attributes
    ----------
    source
        The data that ranges of activations were taken from; None for random inputs.
    samples
        How many samples that were.
    sqnr_db
        The ratio of signal to quantization noise of the outputs on them, in decibels.
    same_class
        The share of them with the class of float32; None if the first output is no row of class
        scores.
    in_float32
        The operators that are computed in float32, with their modules.
    warning
        Why these figures say nothing of the network in use; None if they do.
    choice
        How the precision of each layer was chosen; None if all that can be are in int8.
    """

    source: str | None
    samples: Count
    sqnr_db: Finite
    same_class: Finite | None
    in_float32: tuple[str, ...]
    warning: str | None
    choice: PrecisionChoice | None = None


@dataclass(frozen=True)
class Validation:
    """How close the library came to PyTorch.

    Attributes
    ----------
    tolerance
        The largest error allowed, as a fraction of the spread of PyTorch's output.
    largest_error
        The largest error found.
    inputs
        How many inputs were tried.
    where
        The device it ran on, in words.
    dtype
        What its activations and weights are stored as: ``float32``, ``float16``, ``int8``, or
        ``mixed`` where some layers are in float16, beside others in int8 or float32.
    same_class
        Whether the highest class score is PyTorch's for every input; None if that was not
        asked, as for float32, or the outputs are no class scores.
    operators_proved
        How many operators were compared with PyTorch's one by one, as imported; None if that
        was left out.
    reference_errors
        PyTorch's own error of each output against double precision, as a fraction of its spread;
        empty if that is not known: see :func:`tvm_eff.deploy.accuracy.allowed_error`.
    half_precision_limit
        What is wrong in float16 for inputs from 0 to 255; None if nothing is.
    data
        What came out on a user's own data; None if none was given.
    quantization
        How the network was quantized; None if it was not, or not here.
    """

    tolerance: Finite
    largest_error: Finite
    inputs: Count
    where: str
    dtype: str = "float32"
    same_class: bool | None = None
    operators_proved: Count | None = None
    reference_errors: tuple[Finite, ...] = ()
    half_precision_limit: str | None = None
    data: DataValidation | None = None
    quantization: QuantizationInfo | None = None
