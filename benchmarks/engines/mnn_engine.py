"""MNN, from the ONNX model, at its precision for float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from engines import onnx_model
from engines.base import Call, Job, make


def convert(job: Job) -> None:
    """Write the MNN model."""
    # Not MNN.tools, which on import runs pip and reports to its makers.
    import _tools

    onnx_model.convert(job)

    def run(part: Path) -> None:
        command = ["mnnconvert", "-f", "ONNX", "--bizCode", "benchmark"]
        command += ["--modelFile", str(onnx_model.path_of(job)), "--MNNModel", str(part)]
        _tools.mnnconvert(command)

    make(_path(job), run)


def load(job: Job) -> Call:
    """Return one inference."""
    from MNN import expr, nn

    config = {"backend": 0, "precision": "high", "numThread": job.threads}
    manager = nn.create_runtime_manager((config,))
    net = nn.load_module_from_file(
        str(_path(job)), [onnx_model.INPUT], [onnx_model.OUTPUT], runtime_manager=manager
    )

    def call(x: np.ndarray) -> np.ndarray:
        output = net.forward([expr.const(x, list(x.shape), expr.NCHW)])[0]
        return expr.convert(output, expr.NCHW).read()

    return call


def _path(job: Job) -> Path:
    return job.folder / "model.mnn"
