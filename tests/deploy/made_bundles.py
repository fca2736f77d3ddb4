"""Small networks, and bundles of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tvm
from tvm import relax

from tvm_eff import targets
from tvm_eff.codegen import build_module
from tvm_eff.deploy import bundle_writer
from tvm_eff.deploy.bundle import Bundle, Golden, MeasuredCost, Validation

SHAPE = (2, 3)
VALIDATION = Validation(tolerance=1e-5, largest_error=2e-7, inputs=3, where="a test")
MEASURED = MeasuredCost("instructions", (1234.0,), "emulated cortex-a72", "2026-11-22")


def tensor(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(SHAPE).astype("float32")


def scaled(factor: float) -> tvm.IRModule:
    """Return a network of one input and one output: the input times `factor`."""
    x = relax.Var("x", relax.TensorType(SHAPE, "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        with builder.dataflow():
            factor_const = relax.const(np.float32(factor), "float32")
            output = builder.emit_output(relax.op.multiply(x, factor_const))
        builder.emit_func_output(output)
    return builder.get()


def sum_and_product() -> tvm.IRModule:
    """Return a network of two inputs and two outputs."""
    x, y = (relax.Var(name, relax.TensorType(SHAPE, "float32")) for name in "xy")
    builder = relax.BlockBuilder()
    with builder.function("main", [x, y]):
        with builder.dataflow():
            fields = [builder.emit(relax.op.add(x, y)), builder.emit(relax.op.multiply(x, y))]
            output = builder.emit_output(relax.Tuple(fields))
        builder.emit_func_output(output)
    return builder.get()


def write_unchanged(folder: Path) -> Bundle:
    """Write a bundle of a network whose outputs are its input, and a constant."""
    x = relax.Var("x", relax.TensorType(SHAPE, "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        builder.emit_func_output(relax.Tuple([x, relax.const(tensor(), "float32")]))
    library = folder.with_suffix(".so")
    build_module(builder.get(), targets.load("host"), library)
    return bundle_writer.write(
        folder,
        library,
        model="unchanged",
        target=targets.load("host"),
        golden=Golden({"x": tensor(1)}, {"same": tensor(1), "constant": tensor()}),
        validation=VALIDATION,
    )


@dataclass(frozen=True)
class Maker:
    """Builds each library once and writes bundles of it."""

    folder: Path

    def library(self, target: str, factor: float = 2.0) -> Path:
        path = self.folder / f"scaled_{target}_{factor}.so"
        if not path.exists():
            build_module(scaled(factor), targets.load(target), path)
        return path

    def pair_library(self) -> Path:
        path = self.folder / "pair.so"
        if not path.exists():
            build_module(sum_and_product(), targets.load("host"), path)
        return path

    def write(
        self,
        folder: Path,
        target: str = "host",
        *,
        factor: float = 2.0,
        expected: float | None = None,
        measurement: MeasuredCost | None = None,
        archive: bool = False,
    ) -> Bundle:
        """Write a bundle of the scaling network; its golden output is scaled by `expected`."""
        x = tensor()
        wanted = np.float32(factor if expected is None else expected)
        return bundle_writer.write(
            folder,
            self.library(target, factor),
            model="scale",
            target=targets.load(target),
            golden=Golden({"x": x}, {"y": x * wanted}),
            validation=VALIDATION,
            measurement=measurement,
            archive=archive,
        )

    def write_pair(self, folder: Path) -> Bundle:
        x, y = tensor(0), tensor(1)
        return bundle_writer.write(
            folder,
            self.pair_library(),
            model="pair",
            target=targets.load("host"),
            golden=Golden({"x": x, "y": y}, {"sum": x + y, "product": x * y}),
            validation=VALIDATION,
        )
