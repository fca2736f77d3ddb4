"""The network that a library is built from, in float32 or quantized, and what it is judged by."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch

from tvm_eff import frontend, models, quantize
from tvm_eff.deploy.manifest import QuantizationInfo
from tvm_eff.models import Program
from tvm_eff.passes import RelaxNetwork
from tvm_eff.targets import Target
from tvm_eff.tensors import network_tolerance

logger = logging.getLogger(__name__)

_RANDOM = (
    "calibrated on random inputs: the accuracy of this library means nothing; give inputs like "
    "those in use: --calibrate DATA"
)


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

        Integers are exact. Where something is computed in float32 between them, the last bit of
        it decides values halfway between two integers, and a library that is right may be refused.
        """
        return network_tolerance(self.dtype)


def source_of(program: Program, dtype: str) -> Source:
    """Return a traced network as it is; one that is quantized already computes in int8.

    Raises
    ------
    ModelError
        As for :func:`tvm_eff.frontend.decompose` and :func:`tvm_eff.frontend.import_program`.
    """
    core = frontend.decompose(program)
    imported = frontend.import_program(program, core)
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
    # VNNI multiplies bytes without a sign by bytes with one; NEON both with one.
    activations: quantize.Activations = "uint8" if target.architecture.name == "x86_64" else "int8"
    found = quantize.quantize(original, samples, name, activations, done)
    if name is None:
        logger.warning("%s is %s", original.network.name, _RANDOM)
    source = source_of(found.program, "int8")
    info = QuantizationInfo(
        source=name,
        samples=found.samples,
        sqnr_db=found.loss.sqnr_db,
        same_class=found.loss.same_class,
        in_float32=found.in_float32,
        warning=_RANDOM if name is None else None,
    )
    return Source(source.program, source.core, source.imported, "int8", original, quantization=info)
