"""Small libraries to run on a device: some compute, some misbehave."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import tvm
from tvm import relax, te

from tvm_eff.codegen import toolchain
from tvm_eff.targets import Target

_SOURCE = r"""
/* Functions with TVM's calling convention that behave in ways compiled code should not. */
#include <stdint.h>
#include <stdlib.h>

#define FUNCTION(name)                                                              \
  __attribute__((visibility("default"))) int __tvm_ffi_##name(void *self, const void *args, \
                                                              int32_t count, void *result)

FUNCTION(crash) { __builtin_trap(); }

FUNCTION(leave) { exit(0); }

FUNCTION(hang) {
  for (volatile int i = 0;; i = 0) {
  }
}

FUNCTION(nothing) { return 0; }

/* Address space alone: nothing is written, so that it costs the machine nothing. */
static void *volatile taken;

FUNCTION(exhaust) {
  for (int gigabytes = 0; gigabytes < 4096; ++gigabytes) {
    taken = malloc(1L << 30);
    if (taken == NULL) abort();
  }
  return 0;
}

static int spin(long rounds) {
  for (volatile long i = 0; i < rounds; ++i) {
  }
  return 0;
}

FUNCTION(spin) { return spin(ROUNDS); }
FUNCTION(spin1) { return spin(1000000); }
FUNCTION(spin2) { return spin(2000000); }
"""


class Libraries:
    """Small libraries for the processor of a target, each built when first asked for.

    Parameters
    ----------
    folder
        Where they are kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def behaviour(self, target: Target) -> Path:
        """Return functions that crash, leave, hang, do nothing, exhaust the memory, or spin."""
        return self._compiled_c("behaviour", target, rounds=1_000_000)

    def spin(self, target: Target, rounds: int) -> Path:
        """Return ``spin``, which counts to `rounds`."""
        return self._compiled_c(f"spin_{rounds}", target, rounds)

    def double(self, target: Target) -> Path:
        """Return ``double``: 2 x + 1 of a float32 tensor of 32 x 16."""
        x = te.placeholder((32, 16), name="x")
        y = te.compute((32, 16), lambda i, j: x[i, j] * 2.0 + 1.0, name="y")
        function = te.create_prim_func([x, y]).with_attr("global_symbol", "double")
        return self._compiled("double", tvm.IRModule({"double": function}), target)

    def spoil(self, target: Target) -> Path:
        """Return ``spoil``, which overwrites its float32 input of 32 x 16 with its output."""
        x = te.placeholder((32, 16), name="x")
        y = te.compute((32, 16), lambda i, j: x[i, j] + 1.0, name="y")
        function = te.create_prim_func([y, x]).with_attr("global_symbol", "spoil")
        return self._compiled("spoil", tvm.IRModule({"spoil": function}), target)

    def pair(self, target: Target) -> Path:
        """Return a Relax ``main``: the sum and the product of two float32 tensors of 4 x 8."""
        x, y = (relax.Var(name, relax.TensorType((4, 8), "float32")) for name in "xy")
        builder = relax.BlockBuilder()
        with builder.function("main", [x, y]):
            with builder.dataflow():
                fields = [builder.emit(relax.op.add(x, y)), builder.emit(relax.op.multiply(x, y))]
                output = builder.emit_output(relax.Tuple(fields))
            builder.emit_func_output(output)
        return self._compiled("pair", builder.get(), target)

    def square(self, target: Target) -> Path:
        """Return a Relax ``main`` with one output: the square of a float32 tensor of 5."""
        x = relax.Var("x", relax.TensorType((5,), "float32"))
        builder = relax.BlockBuilder()
        with builder.function("main", [x]):
            with builder.dataflow():
                output = builder.emit_output(relax.op.multiply(x, x))
            builder.emit_func_output(output)
        return self._compiled("square", builder.get(), target)

    def _compiled_c(self, name: str, target: Target, rounds: int) -> Path:
        def make(path: Path) -> None:
            source = path.with_suffix(".c")
            source.write_text(_SOURCE, encoding="utf-8")
            flags = ["-O1", f"-DROUNDS={rounds}"]
            toolchain.compile_shared([source], path, target.toolchain.zig_triple, flags=flags)

        return self._once(name, target, make)

    def _compiled(self, name: str, module: tvm.IRModule, target: Target) -> Path:
        def link(output: str, objects: list[str], **_: object) -> None:
            toolchain.link_shared([Path(path) for path in objects], Path(output))

        link.output_format = "so"  # type: ignore[attr-defined]

        def make(path: Path) -> None:
            built = tvm.compile(module, target=target.tvm_target())
            built.export_library(str(path), fcompile=link)

        return self._once(name, target, make)

    def _once(self, name: str, target: Target, make: Callable[[Path], None]) -> Path:
        path = self._folder / f"{name}_{target.name}.so"
        if not path.exists():
            make(path)
        return path
