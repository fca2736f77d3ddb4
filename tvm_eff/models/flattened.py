"""Flattened networks: a 3-D filter as three 1-D ones (arXiv:1412.5474).

Jin, Dundar and Culurciello, "Flattened Convolutional Neural Networks for Feedforward
Acceleration", 2014. A filter of a standard layer, which spans channels, rows and columns
at once, becomes a *lateral* (across channels), a *vertical* and a *horizontal*
convolution in sequence. A flattened layer is two such stages in cascade (figure 2: the
number was chosen by cross-validation), with a bias after each convolution and no
non-linearity inside, padded so that the output has the size of a standard layer's. The
order and the filters, one vertical and one horizontal per output channel, are those of
the authors' code (github.com/jhjin/flattened-cnn).

Not available of the paper at the time of writing, and the assumptions made:

- The figure, its caption and the abstract were available, sections 4 and 5 were not. The
  assumed baseline is the network that the literature used on CIFAR at the time (Srivastava
  and Salakhutdinov, NIPS 2013): three 5x5 convolutions of 96, 128 and 256 filters, each
  with a ReLU and 3x3 max-pooling of stride 2, then two dense layers of 2048.
- The first layer stays standard. Two stages on three input channels would need 1.6 times
  the parameters of the layer they replace, while the other two need 9.8 and 7.9 times
  fewer: the paper's "8 to 10 times".
- The first stage already has all the output channels, M to N, and the second N to N.
- Pooling rounds down, as Torch's did: 32 becomes 15, 7 and 3.

The network for 224 x 224 is ours: the paper has none. It keeps the paper's 5x5 layers;
its resolutions and widths give the 1-D convolutions a significant share of the work.

Weights are initialized so that outputs are of order one and depend on the input: Kaiming's
gain for ReLU after a ReLU, and 1 inside a layer, which has none.
"""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import nn

from tvm_eff.errors import ModelError
from tvm_eff.models.factorization import FactorizedLayer, Formula, standard_twin

_SOURCE = "arXiv:1412.5474"


class FlattenedStage(FactorizedLayer):
    """Lateral, vertical and horizontal convolution: a standard one of rank-one filters.

    Parameters
    ----------
    inputs, outputs
        Channels, M and N.
    kernel
        Height and width of the filters, Ky and Kx.
    stride, padding, dilation
        As of the standard convolution, height and width; `padding` may also be
        ``"same"`` or ``"valid"``.
    rank
        Filters of each direction per output channel, R; their results are added. One in
        the paper.
    bias
        Whether the horizontal convolution has a bias.
    inner_biases
        Whether the lateral and the vertical convolution have biases too, as in the paper.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: tuple[int, int],
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int] | str = "same",
        dilation: tuple[int, int] = (1, 1),
        rank: int = 1,
        bias: bool = True,
        inner_biases: bool = True,
    ) -> None:
        super().__init__()
        self.inputs, self.outputs, self.kernel, self.rank = inputs, outputs, kernel, rank
        self.stride, self.padding, self.dilation = stride, padding, dilation
        vertical_padding, horizontal_padding = (
            (padding, padding) if isinstance(padding, str) else padding
        )
        filters = rank * outputs
        self.lateral = nn.Conv2d(inputs, filters, 1, bias=inner_biases)
        self.vertical = nn.Conv2d(
            filters,
            filters,
            (kernel[0], 1),
            (stride[0], 1),
            vertical_padding if isinstance(vertical_padding, str) else (vertical_padding, 0),
            (dilation[0], 1),
            groups=filters,
            bias=inner_biases,
        )
        # With more than one filter per output channel, they form a group and are summed.
        self.horizontal = nn.Conv2d(
            filters,
            outputs,
            (1, kernel[1]),
            (1, stride[1]),
            horizontal_padding if isinstance(horizontal_padding, str) else (0, horizontal_padding),
            (1, dilation[1]),
            groups=outputs,
            bias=bias,
        )
        for convolution in (self.lateral, self.vertical, self.horizontal):
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="linear")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H', W'), as the standard layer does."""
        return self.horizontal(self.vertical(self.lateral(x)))

    def standard(self) -> nn.Module:
        """Return the standard convolution of the same shape."""
        return _standard(
            nn.Conv2d(
                self.inputs,
                self.outputs,
                self.kernel,
                self.stride,
                self.padding,
                self.dilation,
                bias=self.horizontal.bias is not None,
            )
        )

    def formula(self) -> Formula:
        """Return the paper's ratio of a stage's weights to the standard layer's."""
        (ky, kx), m, n = self.kernel, self.inputs, self.outputs
        ratio = Fraction(self.rank * (kx * n + ky * n + m * n), kx * ky * m * n)
        text = "(Kx N + Ky N + M N)/(Kx Ky M N)"
        return Formula(text if self.rank == 1 else f"R {text}", ratio, _SOURCE, self._departures())

    def _departures(self) -> tuple[str, ...]:
        found = []
        if self.stride != (1, 1):
            height, width = self.stride
            found.append(f"stride {height}x{width}: the lateral convolution runs before the stride")
        if not self._keeps_size():
            found.append("borders: the lateral convolution does not run at the output's size")
        return tuple(found)

    def _keeps_size(self) -> bool:
        if self.padding == "same":
            return True
        padding = (0, 0) if isinstance(self.padding, str) else self.padding
        return all(
            2 * pad == dilation * (size - 1)
            for pad, dilation, size in zip(padding, self.dilation, self.kernel, strict=True)
        )


class FlattenedLayer(FactorizedLayer):
    """Two flattened stages that replace a standard layer (paper, figure 2).

    Parameters
    ----------
    inputs, outputs
        Channels, M and N.
    kernel
        Height and width of the filters, both odd.

    Raises
    ------
    ModelError
        `kernel` is even: no symmetric padding keeps the size.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int | tuple[int, int]) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, outputs
        self.kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
        if not all(size % 2 for size in self.kernel):
            raise ModelError(
                f"a flattened layer keeps its input's size, and an even kernel {self.kernel} "
                "cannot; use odd sizes"
            )
        padding = _half(self.kernel)
        self.stages = nn.Sequential(
            FlattenedStage(inputs, outputs, self.kernel, padding=padding),
            FlattenedStage(outputs, outputs, self.kernel, padding=padding),
        )
        first = self.stages[0]
        assert isinstance(first, FlattenedStage)
        nn.init.kaiming_normal_(first.lateral.weight, nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H, W)."""
        return self.stages(x)

    def standard(self) -> nn.Module:
        """Return the standard convolution of the same shape."""
        padding = _half(self.kernel)
        return _standard(nn.Conv2d(self.inputs, self.outputs, self.kernel, padding=padding))

    def formula(self) -> Formula:
        """Return the paper's formula for a stage, added up over the two stages."""
        (ky, kx), m, n = self.kernel, self.inputs, self.outputs
        return Formula(
            "(2 Kx N + 2 Ky N + M N + N N)/(Kx Ky M N)",
            Fraction(2 * kx * n + 2 * ky * n + m * n + n * n, kx * ky * m * n),
            f"{_SOURCE}, added up over two stages",
        )


class FlattenedCifar(nn.Module):
    """The paper's network for CIFAR (32 x 32), with the assumptions of the module docstring.

    Parameters
    ----------
    classes
        Classes of the last layer.
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        first = _standard(nn.Conv2d(3, 96, 5, padding=2))
        layers: list[nn.Module] = []
        for layer in (first, FlattenedLayer(96, 128, 5), FlattenedLayer(128, 256, 5)):
            layers += [layer, nn.ReLU(), nn.MaxPool2d(3, stride=2)]
        self.features = nn.Sequential(*layers)
        hidden = [_dense(256 * 3 * 3, 2048), nn.ReLU(), nn.Dropout(0.5)]
        hidden += [_dense(2048, 2048), nn.ReLU(), nn.Dropout(0.5)]
        self.classifier = nn.Sequential(*hidden, _dense(2048, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images (B, 3, 32, 32) to class scores (B, classes)."""
        return self.classifier(torch.flatten(self.features(x), 1))


class Flattened(nn.Module):
    """A flattened network for 224 x 224, of our own design.

    A standard 5x5 convolution of stride 2, then six flattened 5x5 layers with a ReLU each;
    2x2 max-pooling between them reduces 112 to 7. The classifier is a dense layer after
    global average pooling.

    Parameters
    ----------
    classes
        Classes of the last layer.
    """

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        layers: list[nn.Module] = [_standard(nn.Conv2d(3, 32, 5, 2, 2)), nn.ReLU()]
        stages = ((64,), (128,), (256, 256), (512,), (512,))
        channels = 32
        for at, widths in enumerate(stages):
            if at > 0:
                layers.append(nn.MaxPool2d(2))
            for width in widths:
                layers += [FlattenedLayer(channels, width, 5), nn.ReLU()]
                channels = width
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1))
        self.classifier = _dense(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images (B, 3, H, W) to class scores (B, classes)."""
        return self.classifier(torch.flatten(self.features(x), 1))


def flattened(classes: int = 1000) -> nn.Module:
    """Our flattened network for 224 x 224: 1,737,960 parameters, 501,970,944 MACs."""
    return Flattened(classes)


def flattened_standard(classes: int = 1000) -> nn.Module:
    """The same with standard convolutions: 13,061,160 parameters, 4,205,260,800 MACs."""
    return standard_twin(Flattened(classes))


def flattened_cifar(classes: int = 10) -> nn.Module:
    """The paper's flattened network for CIFAR: 9,081,738 parameters, 28,401,152 MACs."""
    return FlattenedCifar(classes)


def flattened_cifar_standard(classes: int = 10) -> nn.Module:
    """The paper's baseline, standard: 10,071,562 parameters, 125,566,976 MACs."""
    return standard_twin(FlattenedCifar(classes))


def _half(kernel: tuple[int, int]) -> tuple[int, int]:
    return kernel[0] // 2, kernel[1] // 2


def _standard(convolution: nn.Conv2d) -> nn.Conv2d:
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    return convolution


def _dense(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return layer
