"""Quantization after training: from a network in float32 to one that integers compute."""

from tvm_eff.quantize.calibrate import Quantized, quantize
from tvm_eff.quantize.loss import Loss, loss_of

__all__ = ["Loss", "Quantized", "loss_of", "quantize"]
