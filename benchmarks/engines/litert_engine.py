"""LiteRT (TensorFlow Lite) with XNNPACK, its default on a CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from engines.base import Call, Job, make


def convert(job: Job) -> None:
    """Write the .tflite model."""
    import litert_torch
    import torch

    def run(part: Path) -> None:
        module = torch.export.load(job.program).module()
        litert_torch.convert(module, (torch.zeros(job.shape),)).export(str(part))

    make(_path(job), run)


def load(job: Job) -> Call:
    """Return one inference."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(_path(job)), num_threads=job.threads)
    interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()

    def call(x: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(taken["index"], x)
        interpreter.invoke()
        return interpreter.get_tensor(given["index"])

    return call


def _path(job: Job) -> Path:
    return job.folder / "model.tflite"
