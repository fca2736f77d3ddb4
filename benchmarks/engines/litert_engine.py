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

    make(_float_path(job), run)
    if job.dtype == "int8":
        make(_path(job), lambda part: _quantize(job, part))


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


def _float_path(job: Job) -> Path:
    return job.folder / "model.tflite"


def _path(job: Job) -> Path:
    return job.folder / "model-int8.tflite" if job.dtype == "int8" else _float_path(job)


def _quantize(job: Job, path: Path) -> None:
    """Quantize statically with AI Edge Quantizer; the input and the output stay float32."""
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import qtyping, quantizer, recipe

    signatures = Interpreter(str(_float_path(job))).get_signature_list()
    ((signature, names),) = signatures.items()
    (taken,) = names["inputs"]
    found = quantizer.Quantizer(str(_float_path(job)), recipe.static_wi8_ai8())
    for operation in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
        found.update_quantization_recipe(
            ".*", operation, algorithm_key=quantizer.AlgorithmName.NO_QUANTIZE
        )
    ranges = found.calibrate({signature: [{taken: image} for image in job.images()]})
    found.quantize(ranges).export_model(str(path), overwrite=True)
