"""OpenVINO's CPU plug-in, tuned for latency, in float32."""

from __future__ import annotations

import numpy as np

from engines import onnx_model
from engines.base import Call, Job


def convert(job: Job) -> None:
    """Write the ONNX model."""
    import openvino  # noqa: F401 - not installed is said before anything is converted

    onnx_model.convert(job)


def load(job: Job) -> Call:
    """Return one inference."""
    import openvino

    core = openvino.Core()
    # Left to itself, the plug-in computes in bfloat16 where the processor can.
    compiled = core.compile_model(
        core.read_model(onnx_model.path_of(job)),
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": job.threads,
        },
    )
    request, output = compiled.create_infer_request(), compiled.output(0)

    def call(x: np.ndarray) -> np.ndarray:
        return request.infer([x], share_inputs=True, share_outputs=True)[output]

    return call
