"""ncnn, converted by pnnx, in float32 or in its float16 arithmetic."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np

from engines.base import Call, Job, make

_REDUCED = ("fp16", "bf16", "int8")


def convert(job: Job) -> None:
    """Trace the program as TorchScript, which pnnx reads, and convert it."""
    import ncnn  # noqa: F401 - not installed is said before anything is converted
    import pnnx

    def run(part: Path) -> None:
        # A batch is given image by image, which takes ncnn less time than all at once.
        single = (1, *job.shape[1:])
        script = job.folder / "ncnn.pt"
        _trace(job.single_program, script, single)
        shape = "[" + ",".join(map(str, single)) + "]f32"
        command = [pnnx.EXEC_PATH, script, f"inputshape={shape}", "fp16=0"]
        command += [f"ncnnparam={part}", f"ncnnbin={_weights(job)}"]
        done = subprocess.run(command, cwd=job.folder, capture_output=True, text=True, check=False)
        if done.returncode != 0 or not part.exists():
            printed = (done.stderr or done.stdout).strip().splitlines()
            raise RuntimeError(f"pnnx failed: {printed[-1] if printed else done.returncode}")
        _require_layers(part)

    make(_graph(job), run)


def load(job: Job) -> Call:
    """Return one inference."""
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = job.threads
    for name in dir(net.opt):
        if name.startswith("use_") and any(each in name for each in _REDUCED):
            setattr(net.opt, name, job.dtype == "float16" and "fp16" in name)
    if net.load_param(str(_graph(job))) != 0 or net.load_model(str(_weights(job))) != 0:
        raise RuntimeError("ncnn cannot load what pnnx wrote")
    (taken,), (given,) = net.input_names(), net.output_names()

    def single(image: np.ndarray) -> np.ndarray:
        with net.create_extractor() as extractor:
            extractor.input(taken, ncnn.Mat(image))
            status, output = extractor.extract(given)
            if status != 0:
                raise RuntimeError(f"ncnn cannot run the network: status {status}")
            return np.array(output)

    def call(x: np.ndarray) -> np.ndarray:
        return np.stack([single(image) for image in x])

    return call


def _require_layers(graph: Path) -> None:
    """Refuse a graph with operators of PyTorch left in it, whose names have a dot."""
    kinds = [line.split()[0] for line in graph.read_text().splitlines() if line]
    left = sorted({kind for kind in kinds if "." in kind})
    if left:
        raise RuntimeError(f"ncnn has no layer for {', '.join(left)}")


def _trace(program: Path, path: Path, shape: tuple[int, ...]) -> None:
    import torch

    with torch.inference_mode():
        module = torch.export.load(program).module()
        traced = torch.jit.trace(module, torch.zeros(shape))  # type: ignore[no-untyped-call]
        traced.save(str(path))


def _graph(job: Job) -> Path:
    return job.folder / "ncnn.param"


def _weights(job: Job) -> Path:
    return job.folder / "ncnn.bin"
