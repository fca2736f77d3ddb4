"""ONNX Runtime on its default CPU provider."""

from __future__ import annotations

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
    if job.dtype == "float16":
        make(_path(job), lambda part: _halve(job, part))


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
    if job.dtype == "float32":
        return onnx_model.path_of(job)
    return job.folder / f"model-{job.dtype}.onnx"


def _halve(job: Job, path: Path) -> None:
    """Write the model in float16 with the tool that comes with it; input and output stay."""
    import onnx
    from onnxruntime.transformers import float16

    model = onnx.load(onnx_model.path_of(job))
    onnx.save(float16.convert_float_to_float16(model, keep_io_types=True), path)


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

    kinds = {"uint8": quantization.QuantType.QUInt8, "int8": quantization.QuantType.QInt8}
    prepared = path.with_name("prepared-" + path.name)
    quantization.quant_pre_process(str(onnx_model.path_of(job)), str(prepared))
    quantization.quantize_static(
        str(prepared),
        str(path),
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        activation_type=kinds[job.activations],
        weight_type=quantization.QuantType.QInt8,
    )
