"""How often networks in float32, float16, int8 and mixed precision are right, on real digits.

    python benchmarks/accuracy.py

Small networks of the zoo's families are trained on scikit-learn's digits, which takes seconds,
calibrated on 200 of the images that they were trained on, and compiled for this machine; each
library then classifies the 797 images that no network has seen. The one in float16 is for the
Cortex-A76 and does so on an emulated board. Weights are all constants that kernels read, with
scales and biases, but for those that an algorithm such as Winograd's takes transformed: these
count as the model has them. In networks so small the scales and biases weigh; so the zoo's own
networks are built as well, for their weights alone. scikit-learn is needed:
``pip install scikit-learn``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import digits
import numpy as np
import results_file
import torch
from torch import nn

import tvm_eff
from tvm_eff import Bundle, models
from tvm_eff.cli.run import run

CALIBRATED_ON = 200
DTYPES = ("float32", "int8", "auto")
HALF_TARGET = "rasp5"


@dataclass(frozen=True)
class Row:
    """What was found for one network.

    Attributes
    ----------
    family
        The network's family.
    parameters
        Its trained values.
    pytorch, float32, int8, auto
        The share of test images whose class is right: PyTorch's, and the libraries'.
    int8_layers, layers
        How many layers ``auto`` computes in int8, of how many.
    float32_bytes, int8_bytes
        The weights of two libraries.
    """

    family: str
    parameters: int
    pytorch: float
    float32: float
    int8: float
    auto: float
    int8_layers: int
    layers: int
    float32_bytes: int
    int8_bytes: int


def main(argv: list[str] | None = None) -> int:
    """Train, compile and compare the networks that the command line names."""
    return run(_main, argv)


def _main(argv: list[str] | None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--models", nargs="+", choices=[*digits.FAMILIES], default=[*digits.FAMILIES]
    )
    parser.add_argument(
        "--weights",
        nargs="*",
        choices=models.names(),
        default=["squeezenet1_1", "mobilenet"],
        metavar="MODEL",
        help="networks of the zoo to count the weights of (default: squeezenet1_1 mobilenet)",
    )
    parser.add_argument("--max-drop", type=float, default=0.005, help="default: %(default)s")
    parser.add_argument("--output", type=Path, default=results_file.RESULTS)
    arguments = parser.parse_args(argv)
    run_now = results_file.begin(__file__, argv)
    data = digits.digits()
    found: dict[str, Any] = {
        "max_drop": arguments.max_drop,
        "images": len(data.test),
        "rows": [],
        "weights": [],
    }
    print(
        "| network | parameters | PyTorch | float32 | float16 | int8 | auto "
        "| auto's layers in int8 | weights, int8 : float32 |\n|---|---|---|---|---|---|---|---|---|"
    )
    path = arguments.output / "accuracy.json"
    for family in arguments.models:
        network = digits.trained(family, data)
        row = row_of(family, network, data, arguments.max_drop)
        half = share_right_in_half(network, data)
        found["rows"].append({**asdict(row), "float16": half})
        run_now.with_data(found).write(path)
        print(
            f"| {family} | {row.parameters:,} | {row.pytorch:.2%} | {row.float32:.2%} "
            f"| {half:.2%} | {row.int8:.2%} | {row.auto:.2%} "
            f"| {row.int8_layers} of {row.layers} "
            f"| {row.int8_bytes:,} : {row.float32_bytes:,} = "
            f"{row.int8_bytes / row.float32_bytes:.3f} |",
            flush=True,
        )
    print("\n| network | weights in int8 | in float32 | ratio |\n|---|---|---|---|")
    for model in arguments.weights:
        sizes = sizes_of(model)
        found["weights"].append(sizes)
        run_now.with_data(found).write(path)
        print(
            f"| {model} | {sizes['int8']:,} | {sizes['float32']:,} | {sizes['ratio']:.3f} |",
            flush=True,
        )
    print(f"\n{run_now.provenance}\nwritten to {path}")
    return 0


def row_of(family: str, network: nn.Module, data: digits.Digits, max_drop: float) -> Row:
    """Compile a trained network for this machine, and classify the test images."""
    with torch.no_grad():
        pytorch = network(torch.from_numpy(data.test)).numpy()
    with tempfile.TemporaryDirectory(prefix="accuracy-") as name:
        folder = Path(name)
        bundles = {each: _compiled(network, data, each, max_drop, folder) for each in DTYPES}
        right = {each: share_right(bundle, data) for each, bundle in bundles.items()}
        chosen = bundles["auto"].manifest.validation.quantization
        assert chosen is not None and chosen.choice is not None
        layers = [each.precision == "int8" for each in chosen.choice.layers]
        return Row(
            family=family,
            parameters=sum(each.numel() for each in network.parameters()),
            pytorch=float(np.mean(pytorch.argmax(1) == data.test_labels)),
            int8_layers=sum(layers),
            layers=len(layers),
            float32_bytes=weight_bytes(bundles["float32"]),
            int8_bytes=weight_bytes(bundles["int8"]),
            **right,
        )


def share_right(bundle: Bundle, data: digits.Digits) -> float:
    """Return the share of test images that a library classifies right."""
    scores = [np.asarray(bundle.run(image[None])) for image in data.test]
    return float(np.mean(np.concatenate(scores).argmax(1) == data.test_labels))


def share_right_in_half(network: nn.Module, data: digits.Digits) -> float:
    """Compile a network in float16, and return the share that is right on an emulated board."""
    with tempfile.TemporaryDirectory(prefix="accuracy-") as name:
        test = Path(name, "test.npz")
        np.savez(test, x=data.test[:, None], labels=data.test_labels)
        made = tvm_eff.compile(
            network,
            torch.from_numpy(data.train[:1]),
            target=HALF_TARGET,
            dtype="float16",
            validation_data=test,
            name="digits",
            logs=Path(name, "logs"),
            output=Path(name),
            measure=False,
        )
    found = made.manifest.validation.data
    assert found is not None and found.top1 is not None
    return found.top1


def weight_bytes(bundle: Bundle) -> int:
    """Return the bytes of a library's weights, those that are transformed as in the model."""
    weights = bundle.manifest.weights
    return sum(each.model_bytes if each.algorithm else each.bytes for each in weights)


def sizes_of(model: str) -> dict[str, Any]:
    """Build a network of the zoo, which is not trained, and count its weights.

    They do not depend on the resolution, of which a small one is quicker.
    """
    with tempfile.TemporaryDirectory(prefix="accuracy-") as name:
        found = {
            dtype: weight_bytes(
                tvm_eff.compile(
                    model,
                    dtype=dtype,
                    resolution=64,
                    logs=Path(name, "logs"),
                    output=Path(name),
                    measure=False,
                    proof=False,
                    validation_inputs=1,
                )
            )
            for dtype in ("float32", "int8")
        }
    return {"model": model, **found, "ratio": found["int8"] / found["float32"]}


def _compiled(
    network: nn.Module, data: digits.Digits, dtype: str, max_drop: float, folder: Path
) -> Bundle:
    calibration = folder / "calibration.npz"
    np.savez(
        calibration,
        x=data.train[:CALIBRATED_ON, None],
        labels=data.train_labels[:CALIBRATED_ON],
    )
    return tvm_eff.compile(
        network,
        torch.from_numpy(data.train[:1]),
        dtype=dtype,
        calibrate=None if dtype == "float32" else calibration,
        max_drop=max_drop if dtype == "auto" else None,
        name="digits",
        logs=folder / "logs",
        output=folder,
        measure=False,
    )


if __name__ == "__main__":
    sys.exit(main())
