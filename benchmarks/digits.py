"""Small networks of the zoo's families, trained in seconds on scikit-learn's 1,797 digits.

The layers are the zoo's own, few and narrow, since the images have 8 x 8 pixels. Nothing is
downloaded: scikit-learn ships the images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from tvm_eff.errors import SetupError
from tvm_eff.models.factorized import IntraChannelLayer, Residual
from tvm_eff.models.flattened import FlattenedLayer
from tvm_eff.models.mobilenet import DepthwiseSeparable
from tvm_eff.models.squeezenet import Fire
from tvm_eff.models.xception import Module

CLASSES = 10
SHAPE = (1, 1, 8, 8)
_TRAINED_ON = 1000
_BATCH = 50
_MOST_RATE = 0.008


@dataclass(frozen=True)
class Digits:
    """Images, N x 1 x 8 x 8 in float32 from 0 to 1, and their classes.

    Attributes
    ----------
    train, test
        The images to train and to calibrate on, and the others.
    train_labels, test_labels
        Their classes.
    """

    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray


def digits() -> Digits:
    """Return the digits, in an order by chance that is the same each time.

    Raises
    ------
    SetupError
        scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise SetupError(
            f"the digits are scikit-learn's, which cannot be imported ({error}); install it: "
            "pip install scikit-learn"
        ) from error
    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.images))
    images = (found.images[order, None] / 16).astype("float32")
    labels = found.target[order].astype("int64")
    train, test = slice(None, _TRAINED_ON), slice(_TRAINED_ON, None)
    return Digits(images[train], labels[train], images[test], labels[test])


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let PyTorch use one thread: sums are the same each time, and small layers quicker."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@_one_thread()
def trained(name: str, data: Digits, epochs: int = 20) -> nn.Module:
    """Return a network of a family, trained.

    Parameters
    ----------
    name
        One of :data:`FAMILIES`.
    data
        The digits.
    epochs
        How often each image is seen.
    """
    torch.manual_seed(0)
    network = FAMILIES[name]().train()
    images, labels = torch.from_numpy(data.train), torch.from_numpy(data.train_labels)
    optimizer = torch.optim.Adam(network.parameters(), lr=_MOST_RATE)
    steps = epochs * (len(images) // _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _MOST_RATE, total_steps=steps)
    for _ in range(epochs):
        for chosen in torch.split(torch.randperm(len(images)), _BATCH):
            optimizer.zero_grad()
            torch.autograd.backward(cross_entropy(network(images[chosen]), labels[chosen]))
            optimizer.step()
            schedule.step()
    return network.eval()


def _convolution(channels: int, kernel: int = 3) -> list[nn.Module]:
    return [
        nn.Conv2d(1, channels, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    ]


def _head(channels: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES)]


def _squeezenet() -> nn.Module:
    last = [nn.Conv2d(64, CLASSES, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    fires = [Fire(32, 8, 16), nn.MaxPool2d(2), Fire(32, 16, 32), Fire(64, 16, 32)]
    network = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), *fires, *last)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):  # as the zoo does: without batch norm it matters
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
    return network


def _mobilenet() -> nn.Module:
    layers = [DepthwiseSeparable(16, 32), DepthwiseSeparable(32, 64, 2), DepthwiseSeparable(64, 64)]
    return nn.Sequential(*_convolution(16), *layers, *_head(64))


def _xception() -> nn.Module:
    layers = [Module([16, 32, 32], activate_first=False), Module([32, 32, 32, 32], shrink=False)]
    return nn.Sequential(*_convolution(16), *layers, nn.ReLU(), *_head(32))


def _flattened() -> nn.Module:
    layers = [FlattenedLayer(16, 32, 3), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [FlattenedLayer(32, 64, 3), nn.ReLU()]
    return nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), *layers, *_head(64))


def _factorized() -> nn.Module:
    layers = [
        Residual(IntraChannelLayer(16, 16), 16, 16),
        Residual(IntraChannelLayer(16, 64, 3, 2), 16, 64),
        Residual(IntraChannelLayer(64, 64), 64, 64),
    ]
    return nn.Sequential(*_convolution(16), *layers, *_head(64))


FAMILIES: dict[str, Callable[[], nn.Module]] = {
    "squeezenet": _squeezenet,
    "mobilenet": _mobilenet,
    "xception": _xception,
    "flattened": _flattened,
    "factorized": _factorized,
}
"""Networks in small, by the zoo's names of their families."""
