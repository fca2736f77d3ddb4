"""OpenVINO's CPU plug-in, tuned for latency, in float32 or quantized by NNCF."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from engines import onnx_model
from engines.base import Call, Job, make


def convert(job: Job) -> None:
    """Write the ONNX model."""
    import openvino  # noqa: F401 - not installed is said before anything is converted

    onnx_model.convert(job)
    if job.dtype == "int8":
        make(_path(job), lambda part: _quantize(job, part))


def load(job: Job) -> Call:
    """Return one inference."""
    import openvino

    core = openvino.Core()
    # Left to itself, the plug-in computes in bfloat16 where the processor can.
    compiled = core.compile_model(
        core.read_model(_path(job)),
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


def _path(job: Job) -> Path:
    return job.folder / "int8.xml" if job.dtype == "int8" else onnx_model.path_of(job)


def _quantize(job: Job, path: Path) -> None:
    import nncf
    import openvino

    model = openvino.Core().read_model(onnx_model.path_of(job))
    images = job.images()
    quantized = nncf.quantize(model, nncf.Dataset(images), subset_size=len(images))
    openvino.save_model(quantized, path, compress_to_fp16=False)
    # Its weights lie beside it, under its name.
    path.with_suffix(".bin").rename(_path(job).with_suffix(".bin"))
