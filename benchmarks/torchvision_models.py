"""Torchvision's networks with random weights: are they right, or refused, and in what time?

    python -m pip install --target FOLDER --no-deps torchvision
    PYTHONPATH=FOLDER python benchmarks/torchvision_models.py

Take the version that belongs to the installed torch (``Requires-Dist`` in its metadata). Its
native operators are not needed, and its wheels for other devices do without them here: of a
detector, what the library computes are the boxes and scores before non-maximum suppression, which
is refused by name. Each network is proved, lowered, built and compared with PyTorch, as
``random_networks.py`` does; the times are of this machine as it is.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import Any

import torch
from torch import nn
from whole_networks import attempt

from tvm_eff.cli.run import run
from tvm_eff.device import LocalDevice
from tvm_eff.errors import UsageError
from tvm_eff.models import Network
from tvm_eff.tensors import TensorSpec

_DETECTORS = ("ssdlite320_mobilenet_v3_large", "ssd300_vgg16", "retinanet_resnet50_fpn")
_SIZES = {"vit_b_16": 224, "inception_v3": 128}
"""Where 64 is too small; a ViT's is fixed."""

_LIBRARIES: list[Any] = []
"""What is registered is forgotten with its library."""

NAMES = (
    *("alexnet", "squeezenet1_1", "vgg11", "resnet18", "resnext50_32x4d", "wide_resnet50_2"),
    *("mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "efficientnet_v2_s"),
    *("shufflenet_v2_x0_5", "densenet121", "regnet_y_400mf", "regnet_x_400mf", "convnext_tiny"),
    *("mnasnet0_5", "googlenet", "inception_v3", "vit_b_16", "swin_t", "swin_v2_t", "maxvit_t"),
    *("deeplabv3_mobilenet_v3_large", "fcn_resnet50", "lraspp_mobilenet_v3_large"),
    *_DETECTORS,
    *(f"{name}: with non-maximum suppression" for name in _DETECTORS[:1]),
)


class Segmentation(nn.Module):
    """The scores and the classes of a segmentation network, whose output is a dictionary."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return scores, and the class of each pixel."""
        scores = self.network(x)["out"]
        return scores, scores.argmax(1)


class Detection(nn.Module):
    """A detector without what is behind its heads: boxes and scores of all anchors."""

    anchors: torch.Tensor

    def __init__(self, network: Any, x: torch.Tensor) -> None:
        super().__init__()
        self.backbone, self.head, self.coder = network.backbone, network.head, network.box_coder
        images = importlib.import_module("torchvision.models.detection.image_list")
        maps = list(self.backbone(x).values())
        sizes = [tuple(x.shape[2:])]
        self.register_buffer(
            "anchors", network.anchor_generator(images.ImageList(x, sizes), maps)[0]
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the boxes, their scores, and the best class of each."""
        found = self.head(list(self.backbone(x).values()))
        boxes = self.coder.decode_single(found["bbox_regression"][0], self.anchors)
        scores = found["cls_logits"][0].softmax(-1)
        return boxes, scores, scores.argmax(-1)


class Suppressed(nn.Module):
    """What is left of a detector's boxes after non-maximum suppression."""

    def __init__(self, detection: nn.Module) -> None:
        super().__init__()
        self.detection = detection

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the boxes that are kept."""
        boxes, scores, _ = self.detection(x)
        return boxes[torch.ops.torchvision.nms(boxes, scores.amax(-1), 0.5)]


def main(argv: list[str] | None = None) -> int:
    """Try the networks and print a line for each."""
    return run(_main, argv)


def _main(argv: list[str] | None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=NAMES, metavar="NAME")
    parser.add_argument("--unscheduled", action="store_true", help="build without our schedules")
    arguments = parser.parse_args(argv)
    torchvision = _torchvision()
    wrong = []
    with LocalDevice() as device:
        for name in arguments.models:
            network = _network(torchvision, name)
            outcome = attempt(network, device, scheduled=not arguments.unscheduled)
            size = network.inputs[0].shape[-1]
            load = os.getloadavg()[0]
            print(f"{name} at {size}: {outcome} (load {load:.1f})", flush=True)
            wrong += [name] if outcome.kind in ("wrong", "crashed") else []
    if wrong:
        raise UsageError(f"networks that are wrong: {', '.join(wrong)}")


def _torchvision() -> Any:
    library: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        # The schemas alone: torchvision cannot be imported without them.
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.impl(name, _keep_half, "CPU")
    _LIBRARIES.append(library)
    try:
        return importlib.import_module("torchvision")
    except ImportError as error:
        raise UsageError(f"torchvision cannot be imported: {error}; see --help") from error


def _keep_half(boxes: torch.Tensor, scores: torch.Tensor, _: float) -> torch.Tensor:
    """Stand in for the suppression while a network is traced: it is refused, and never compared."""
    return scores.argsort(descending=True)[: len(boxes) // 2]


def _network(torchvision: Any, name: str) -> Network:
    torch.manual_seed(0)
    base, _, whole = name.partition(":")
    options = {"init_weights": False} if base in ("googlenet", "inception_v3") else {}
    if "_v3_large" in base or base.startswith(("fcn", "ssd", "retinanet")):
        options["weights_backbone"] = None  # type: ignore[assignment]
    module = torchvision.models.get_model(base, weights=None, **options).eval()
    size = _SIZES.get(
        base, 320 if base.startswith("ssdlite") else 300 if base == "ssd300_vgg16" else 64
    )
    return Network(
        name, _wrapped(module, base, size, whole), (TensorSpec((1, 3, size, size), "float32"),)
    )


def _wrapped(module: nn.Module, base: str, size: int, whole: str) -> nn.Module:
    if base in _DETECTORS:
        with torch.no_grad():
            found = Detection(module, torch.zeros(1, 3, size, size)).eval()
        return Suppressed(found).eval() if whole else found
    if base.startswith(("deeplab", "fcn", "lraspp")):
        return Segmentation(module).eval()
    return module


if __name__ == "__main__":
    sys.exit(main())
