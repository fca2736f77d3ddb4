"""MNN, from the ONNX model, in float32, float16 or quantized by its own tool."""

from __future__ import annotations

import json
import tempfile
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

    make(_float_path(job), run)
    if job.dtype == "int8":
        make(_path(job), lambda part: _quantize(job, part))


def load(job: Job) -> Call:
    """Return one inference."""
    from MNN import expr, nn

    precision = "low" if job.dtype == "float16" else "high"
    config = {"backend": 0, "precision": precision, "numThread": job.threads}
    manager = nn.create_runtime_manager((config,))
    net = nn.load_module_from_file(
        str(_path(job)), [onnx_model.INPUT], [onnx_model.OUTPUT], runtime_manager=manager
    )

    def call(x: np.ndarray) -> np.ndarray:
        output = net.forward([expr.const(x, list(x.shape), expr.NCHW)])[0]
        converted = expr.convert(output, expr.NCHW)
        # What it reads is its own memory, which goes with it.
        return np.array(converted.read())

    return call


def _float_path(job: Job) -> Path:
    return job.folder / "model.mnn"


def _path(job: Job) -> Path:
    return job.folder / "model-int8.mnn" if job.dtype == "int8" else _float_path(job)


def _quantize(job: Job, path: Path) -> None:
    import _tools

    images = job.images()
    with tempfile.TemporaryDirectory(dir=job.folder) as name:
        folder = Path(name)
        for number, image in enumerate(images):
            sample = folder / "images" / str(number)
            sample.mkdir(parents=True)
            np.savetxt(sample / f"{onnx_model.INPUT}.txt", image.ravel())
            described = {
                "inputs": [{"name": onnx_model.INPUT, "shape": list(image.shape)}],
                "outputs": [onnx_model.OUTPUT],
            }
            (sample / "input.json").write_text(json.dumps(described))
        # "sequence" is what it calls inputs in text files, in the place of pictures.
        config = {
            "path": f"{folder / 'images'}/",
            "input_type": "sequence",
            "used_sample_num": len(images),
            "batch_size": job.shape[0],
            "feature_quantize_method": "KL",
            "weight_quantize_method": "MAX_ABS",
        }
        written = folder / "config.json"
        written.write_text(json.dumps(config))
        words = ["mnnquant", str(_float_path(job)), str(path), str(written)]
        if not _tools.mnnquant(words):
            raise RuntimeError("mnnquant failed")
