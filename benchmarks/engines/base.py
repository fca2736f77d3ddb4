"""What an engine is asked to run, and what the list of engines says of each."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

Call = Callable[[np.ndarray], np.ndarray]
"""One inference: a C-contiguous array of images (N, C, H, W) in, an array out."""


CALIBRATION = "calibration.npz"
"""The file of images to quantize with, in a workload's folder."""


@dataclass(frozen=True)
class Engine:
    """An engine of the comparison.

    Attributes
    ----------
    name
        What it is called in tables.
    module
        The module that has ``load(job) -> Call``, and ``convert(job)`` unless the
        engine is ours or PyTorch.
    packages
        The distributions whose versions are reported, the engine's own first.
    ours
        Whether it takes the model from tvm_eff itself, under its Python; the others
        are converted from the traced program, and may have a Python of their own.
    note
        What a reader must know of how it is run.
    dtypes
        What it may be asked to compute in.
    """

    name: str
    module: str
    packages: tuple[str, ...]
    ours: bool = False
    note: str = ""
    dtypes: tuple[str, ...] = ("float32",)


@dataclass(frozen=True)
class Job:
    """What an engine's process is asked to run.

    Attributes
    ----------
    module
        The engine's module.
    packages
        As in :class:`Engine`.
    model
        The model's name in the zoo.
    shape
        The shape of its input.
    folder
        Where converted models go; it holds the input and the programs that
        ``torch.export`` made, for the whole batch and for a single image.
    bundle
        Our library.
    cores
        The cores to run on, one thread each.
    dtype
        What it computes in; as ``int8`` the peers are quantized by their own tools, on the
        images in `calibration`.
    activations
        ``uint8`` or ``int8``: the bytes of activations, where an engine's tool leaves the choice.
        VNNI multiplies bytes without a sign by bytes with one, Arm's sdot those with a sign.
    """

    module: str
    packages: tuple[str, ...]
    model: str
    shape: tuple[int, ...]
    folder: Path
    bundle: Path | None
    cores: tuple[int, ...]
    dtype: str = "float32"
    activations: str = "uint8" if platform.machine() == "x86_64" else "int8"

    @property
    def threads(self) -> int:
        """How many threads an inference may use."""
        return len(self.cores)

    @property
    def program(self) -> Path:
        """The traced program."""
        return self.folder / "model.pt2"

    @property
    def single_program(self) -> Path:
        """The same, traced for one image."""
        return self.folder / "single.pt2"

    @property
    def input(self) -> Path:
        """The input, for ``numpy.load``."""
        return self.folder / "input.npy"

    @property
    def calibration(self) -> Path:
        """Images to quantize with, an ``.npz`` with ``input``: a batch in each row."""
        return self.folder / CALIBRATION

    def images(self) -> list[np.ndarray]:
        """Return the batches to quantize with."""
        with np.load(self.calibration) as found:
            return list(found["input"])

    def as_json(self) -> str:
        """Return it as one line."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Read what :meth:`as_json` wrote."""
        values = json.loads(text)
        for name in ("packages", "shape", "cores"):
            values[name] = tuple(values[name])
        values["folder"] = Path(values["folder"])
        values["bundle"] = Path(values["bundle"]) if values["bundle"] else None
        return cls(**values)


def make(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write` make a file, unless a former process has; a half-written one never counts."""
    if path.exists():
        return
    part = path.with_name("part-" + path.name)
    write(part)
    part.rename(path)


_BOTH = ("float32", "int8")
_HALF = ("float32", "float16")
_ALL = ("float32", "int8", "float16")

ENGINES = (
    Engine("tvm_eff", "engines.tvm_eff_engine", ("tvm_eff", "apache-tvm"), ours=True, dtypes=_ALL),
    Engine("ONNX Runtime", "engines.onnxruntime_engine", ("onnxruntime",), dtypes=_ALL),
    Engine(
        "OpenVINO",
        "engines.openvino_engine",
        ("openvino",),
        note="latency; what is not quantized in f32",
        dtypes=_BOTH,
    ),
    Engine(
        "torch.compile",
        "engines.torch_compile_engine",
        ("torch",),
        ours=True,
        note="Inductor with freezing: weights are constants, as in the other engines",
    ),
    Engine(
        "torch eager", "engines.torch_eager_engine", ("torch",), ours=True, note="channels-last"
    ),
    Engine(
        "ncnn",
        "engines.ncnn_engine",
        ("ncnn", "pnnx"),
        note="one image after the other",
        dtypes=_HALF,
    ),
    Engine(
        "MNN",
        "engines.mnn_engine",
        ("MNN",),
        note="precision high, which is float32 where nothing is quantized; in float16 low",
        dtypes=_ALL,
    ),
    Engine(
        "LiteRT",
        "engines.litert_engine",
        ("ai-edge-litert", "litert-torch"),
        note="XNNPACK",
        dtypes=_BOTH,
    ),
)
"""Which may be asked for what; torch.compile's int8 is a backend of its own."""

UNABLE = {
    ("ncnn", "int8"): "its quantizing tools, ncnn2table and ncnn2int8, are in no package",
    ("LiteRT", "float16"): "its Interpreter has no option for XNNPACK's float16 arithmetic",
}
"""Why some engines are not asked for a dtype, by name and dtype."""
