"""ONNX Runtime on its default CPU provider."""

from __future__ import annotations

import numpy as np

from engines import onnx_model
from engines.base import Call, Job


def convert(job: Job) -> None:
    """Write the ONNX model."""
    import onnxruntime  # noqa: F401 - not installed is said before anything is converted

    onnx_model.convert(job)


def load(job: Job) -> Call:
    """Return one inference."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job.threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(
        onnx_model.path_of(job), options, providers=["CPUExecutionProvider"]
    )

    def call(x: np.ndarray) -> np.ndarray:
        return session.run(None, {onnx_model.INPUT: x})[0]

    return call
