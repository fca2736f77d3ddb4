"""Normalisations where the mean is large beside the deviation, or there is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from test_operators import Applied

from tvm_eff import frontend, passes, targets
from tvm_eff.deploy.library import build_library
from tvm_eff.device import LocalDevice
from tvm_eff.models import Network, trace
from tvm_eff.tensors import TensorSpec

SHAPE = (2, 4, 5, 7)
NOISE = np.random.default_rng(3).uniform(-1, 1, SHAPE)
IMAGES = {
    "noise": NOISE,
    "wall": 200 + NOISE,
    "bright": np.full(SHAPE, 255.0),
    "dark": np.zeros(SHAPE),
    "half_bright": np.where(np.arange(7) < 3, 255.0, 254.0) * np.ones(SHAPE),
}
NORMS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "group": lambda x: F.group_norm(x, 2),
    "group_of_one": lambda x: F.group_norm(x, 4),
    "group_affine": lambda x: F.group_norm(x, 2, x.new_tensor([1.0, 2, 3, 4]), x.new_ones(4)),
    "instance": F.instance_norm,
    "layer": lambda x: F.layer_norm(x, x.shape[-1:]),
    "layer_of_two": lambda x: F.layer_norm(x, x.shape[-2:], x.new_full((5, 7), 2.0)),
    "batch": lambda x: F.batch_norm(x, None, None, training=True),
}


def test_as_near_as_pytorch(tmp_path: Path) -> None:
    """To the result in double precision, from which PyTorch's float32 differs as well."""
    target = targets.load("host")
    module = Applied(lambda x: [norm(x) for norm in NORMS.values()]).eval()
    program = trace(Network("norms", module, (TensorSpec(SHAPE, "float32"),)))
    path = tmp_path / "model.so"
    build_library(passes.lower(frontend.import_program(program), target), None, target, path)
    with LocalDevice(threads=1) as device:
        for image, values in IMAGES.items():
            x = values.astype("float32")
            found, _ = device.run(path, [x], keep=True)
            for name, ours, theirs in zip(NORMS, found, program.run([x]), strict=True):
                exact = NORMS[name](torch.from_numpy(x).double()).numpy()
                allowed = max(2 * float(np.abs(theirs - exact).max()), 1e-5)
                assert np.abs(ours - exact).max() <= allowed, (name, image)
