"""ONNX Runtime on its default CPU provider."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from engines import onnx_model
from engines.base import Call, Job, make


def convert(job: Job) -> None:
    """Write the ONNX model."""
    import onnxruntime  # noqa: F401 - not installed is said before anything is converted

    onnx_model.convert(job)
    if job.dtype == "int8":
        make(_path(job), lambda part: _quantize(job, part))


def load(job: Job) -> Call:
    """Return one inference."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job.threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(_path(job), options, providers=["CPUExecutionProvider"])

    def call(x: np.ndarray) -> np.ndarray:
        return session.run(None, {onnx_model.INPUT: x})[0]

    return call


def _path(job: Job) -> Path:
    return job.folder / "model-int8.onnx" if job.dtype == "int8" else onnx_model.path_of(job)


def _quantize(job: Job, path: Path) -> None:
    """Quantize statically with the tool that comes with it, in the form it advises for a CPU."""
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        """The images, one after the other."""

        def __init__(self) -> None:
            self._images: Iterator[np.ndarray] = iter(job.images())

        def get_next(self) -> dict[str, np.ndarray] | None:
            """Return the next, or None."""
            found = next(self._images, None)
            return None if found is None else {onnx_model.INPUT: found}

    prepared = path.with_name("prepared-" + path.name)
    quantization.quant_pre_process(str(onnx_model.path_of(job)), str(prepared))
    # VNNI multiplies bytes without a sign by bytes with one, ARM those with a sign.
    on_x86 = platform.machine() == "x86_64"
    activations = quantization.QuantType.QUInt8 if on_x86 else quantization.QuantType.QInt8
    quantization.quantize_static(
        str(prepared),
        str(path),
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        activation_type=activations,
        weight_type=quantization.QuantType.QInt8,
    )
