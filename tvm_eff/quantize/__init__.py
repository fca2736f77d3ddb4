"""Quantization after training: from a network in float32 to one that integers compute."""

from tvm_eff.quantize.calibrate import RANDOM_SAMPLES, Activations, Quantized, quantize
from tvm_eff.quantize.loss import Loss, loss_of
from tvm_eff.quantize.reference import QuantizedProgram, exact

__all__ = [
    "RANDOM_SAMPLES",
    "Activations",
    "Loss",
    "Quantized",
    "QuantizedProgram",
    "exact",
    "loss_of",
    "quantize",
]
