"""Libraries to run, and servers to run them on."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import tvm
from tvm import relax, te

from tvm_eff.codegen import toolchain
from tvm_eff.device import Device, server
from tvm_eff.device.server_process import ServerProcess

HOST = platform.machine()
ZIG = {
    "x86_64": "x86_64-linux-gnu.2.31",
    "aarch64": "aarch64-linux-gnu.2.31",
    "arm": "arm-linux-gnueabihf.2.31",
}
TARGETS = {
    "x86_64": {"kind": "llvm", "mtriple": "x86_64-linux-gnu"},
    "aarch64": {"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "cortex-a72"},
    "arm": {
        "kind": "llvm",
        "mtriple": "armv7l-linux-gnueabihf",
        "mcpu": "cortex-a53",
        "mattr": ["+neon"],
        "mfloat-abi": "hard",
    },
}


class Libraries:
    """Small libraries for an architecture, each built when first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def behaviour(self, arch: str) -> Path:
        """Return functions that crash, hang, do nothing or spin."""
        source = Path(__file__).with_name("libraries.c")
        return self._once(
            f"behaviour_{arch}.so",
            lambda path: toolchain.compile_shared([source], path, ZIG[arch], flags=["-O1"]),
        )

    def double(self, arch: str) -> Path:
        """Return ``double``: 2 x + 1 of a float32 tensor of 32 x 16."""
        x = te.placeholder((32, 16), name="x")
        y = te.compute((32, 16), lambda i, j: x[i, j] * 2.0 + 1.0, name="y")
        function = te.create_prim_func([x, y]).with_attr("global_symbol", "double")
        return self._compiled(f"double_{arch}.so", tvm.IRModule({"double": function}), arch)

    def spoil(self, arch: str) -> Path:
        """Return ``spoil``, which overwrites its float32 input of 32 x 16 with its output."""
        x = te.placeholder((32, 16), name="x")
        y = te.compute((32, 16), lambda i, j: x[i, j] + 1.0, name="y")
        function = te.create_prim_func([y, x]).with_attr("global_symbol", "spoil")
        return self._compiled(f"spoil_{arch}.so", tvm.IRModule({"spoil": function}), arch)

    def pair(self, arch: str) -> Path:
        """Return a Relax ``main``: the sum and the product of two float32 tensors of 4 x 8."""
        x, y = (relax.Var(name, relax.TensorType((4, 8), "float32")) for name in "xy")
        builder = relax.BlockBuilder()
        with builder.function("main", [x, y]):
            with builder.dataflow():
                fields = [builder.emit(relax.op.add(x, y)), builder.emit(relax.op.multiply(x, y))]
                output = builder.emit_output(relax.Tuple(fields))
            builder.emit_func_output(output)
        return self._compiled(f"pair_{arch}.so", builder.get(), arch)

    def square(self, arch: str) -> Path:
        """Return a Relax ``main`` with one output: the square of a float32 tensor of 5."""
        x = relax.Var("x", relax.TensorType((5,), "float32"))
        builder = relax.BlockBuilder()
        with builder.function("main", [x]):
            with builder.dataflow():
                output = builder.emit_output(relax.op.multiply(x, x))
            builder.emit_func_output(output)
        return self._compiled(f"square_{arch}.so", builder.get(), arch)

    def _compiled(self, name: str, module: tvm.IRModule, arch: str) -> Path:
        def link(output: str, objects: list[str], **_: object) -> None:
            toolchain.link_shared([Path(path) for path in objects], Path(output))

        link.output_format = "so"  # type: ignore[attr-defined]

        def make(path: Path) -> None:
            built = tvm.compile(module, target=tvm.target.Target(TARGETS[arch]))
            built.export_library(str(path), fcompile=link)

        return self._once(name, make)

    def _once(self, name: str, make: Callable[[Path], None]) -> Path:
        path = self._folder / name
        if not path.exists():
            make(path)
        return path


@dataclass(frozen=True)
class Place:
    """A kind of device, and the architecture of its code."""

    arch: str
    make: Callable[[float], Device]


@contextmanager
def surviving_server() -> Iterator[int]:
    """Run an RPC server which, unlike TVM's own, goes on after a session has crashed."""
    script = Path(server.__file__)
    process = ServerProcess(
        lambda folder, port: [sys.executable, script, "--port-file", port], os.environ
    )
    try:
        yield process.port
    finally:
        process.stop()
