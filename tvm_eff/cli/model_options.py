"""The options that say which network, shared by all verbs that take one."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_eff.cli.arguments import positive

if TYPE_CHECKING:
    from tvm_eff.models import Network

MODEL_HELP = (
    "a model's name, such as squeezenet or mobilenet_0.5_160; FILE.py:NAME or "
    "PACKAGE.MODULE:NAME of your own class or function; or a .pt2 file of torch.export"
)


def add_model_options(parser: ArgumentParser) -> None:
    """Add the options that say more of the model than its name."""
    group = parser.add_argument_group("the model")
    group.add_argument(
        "--input-shape",
        type=shape,
        action="append",
        default=[],
        metavar="N,C,H,W",
        help="the shape of an input of your own model; once for each input",
    )
    group.add_argument(
        "--input-dtype",
        action="append",
        default=[],
        metavar="DTYPE",
        help="the dtype of an input, in the order of --input-shape (default: float32)",
    )
    group.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="trained weights: .safetensors, or a state_dict written by torch.save",
    )
    group.add_argument("--width", type=float, help="width multiplier, for models that have one")
    group.add_argument(
        "--resolution", type=positive, help="height and width of the input, for named models"
    )


def model_options(arguments: Namespace) -> dict[str, Any]:
    """Return what the arguments say of the model besides its name, as keyword arguments."""
    return {
        "input_shapes": arguments.input_shape,
        "input_dtypes": arguments.input_dtype,
        "weights": arguments.weights,
        "width": arguments.width,
        "resolution": arguments.resolution,
    }


def network(arguments: Namespace) -> Network:
    """Return the network that the arguments name.

    Raises
    ------
    ModelError
        See :func:`tvm_eff.models.load`.
    """
    from tvm_eff import models

    return models.load(arguments.model, **model_options(arguments))


def shape(text: str) -> tuple[int, ...]:
    """Read a shape such as ``1,3,224,224``."""
    try:
        extents = tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        extents = ()
    if not extents or min(extents) < 1:
        raise ArgumentTypeError(
            f"'{text}' is not a shape; write whole numbers of at least 1, such as 1,3,224,224"
        )
    return extents
