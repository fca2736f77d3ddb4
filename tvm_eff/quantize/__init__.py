"""Quantization after training: from a network in float32 to one that integers compute."""

from tvm_eff.quantize.automatic import Choice, quantize_as_chosen, quantize_where_allowed
from tvm_eff.quantize.calibrate import (
    RANDOM_SAMPLES,
    Activations,
    Quantized,
    convert,
    observe,
    quantize,
)
from tvm_eff.quantize.choose import LayerChoice
from tvm_eff.quantize.criterion import Metric
from tvm_eff.quantize.layer_cost import CostModel, cost_model
from tvm_eff.quantize.loss import Loss, loss_of
from tvm_eff.quantize.observed import Observed
from tvm_eff.quantize.reference import QuantizedProgram, exact

__all__ = [
    "RANDOM_SAMPLES",
    "Activations",
    "Choice",
    "CostModel",
    "LayerChoice",
    "Loss",
    "Metric",
    "Observed",
    "Quantized",
    "QuantizedProgram",
    "convert",
    "cost_model",
    "exact",
    "loss_of",
    "observe",
    "quantize",
    "quantize_as_chosen",
    "quantize_where_allowed",
]
