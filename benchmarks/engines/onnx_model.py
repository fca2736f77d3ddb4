"""The ONNX model that several engines read."""

from __future__ import annotations

from pathlib import Path

from engines.base import Job, make

INPUT, OUTPUT = "input", "output"


def path_of(job: Job) -> Path:
    """Return where the ONNX model is, or will be."""
    return job.folder / "model.onnx"


def convert(job: Job) -> None:
    """Write it from the traced program, all names known, weights inside."""
    # An engine beyond these reads the same file; it is exported once.
    make(path_of(job), lambda part: _export(job.program, part))


def _export(program: Path, path: Path) -> None:
    import torch

    torch.onnx.export(
        torch.export.load(program),
        (),
        path,
        dynamo=True,
        external_data=False,
        input_names=[INPUT],
        output_names=[OUTPUT],
        verbose=False,
    )
