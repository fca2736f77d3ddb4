"""The multiply-adds a device does in a second, measured there with nothing but registers."""

from __future__ import annotations

from typing import Any

import numpy as np
import tvm
from tvm import te
from tvm.s_tir import Schedule

from tvm_eff.codegen import build_kernel
from tvm_eff.codegen.compile import KERNEL
from tvm_eff.device import Device, MeasureOptions
from tvm_eff.scratch import scratch_folder
from tvm_eff.targets import Target
from tvm_eff.tensors import TensorSpec

# Twelve chains hide the latency of two units (4 or 5 cycles each), and with the constants
# they fit into sixteen registers.
_CHAINS = 12
# Milliseconds: to hand the work to the threads takes none of it that shows.
_STEPS = 1_000_000
_FACTOR = 0.999
_OPTIONS = MeasureOptions(repeat=40, min_repeat_ms=0.0, budget_s=0.5)


def measure_peak(target: Target, device: Device) -> float:
    """Return the vector multiply-adds that all cores of a device do in a second at best.

    Parameters
    ----------
    target
        What the device is.
    device
        It must be open, and measure seconds.

    Raises
    ------
    BuildError
        The loop cannot be compiled for the target.
    ExecutionError, DeviceError
        It does not run, or the device is gone.
    """
    lanes, cores = target.hardware.lanes, target.hardware.cores
    with scratch_folder() as folder:
        library = folder / "peak.so"
        build_kernel(_schedule(cores, lanes), target, library)
        shape = TensorSpec((cores, _CHAINS, lanes), "float32")
        addend = np.ones(lanes, "float32")
        _, measurement = device.call(library, KERNEL, [addend], [shape], measure=_OPTIONS)
    assert measurement is not None, "a measurement was asked for"
    return cores * _CHAINS * _STEPS / min(measurement.values)


def _schedule(cores: int, lanes: int) -> Schedule:
    addend = te.placeholder((lanes,), name="addend")
    step = te.reduce_axis((0, _STEPS), name="step")
    # Each step needs the one before, or the compiler would do the multiplication once.
    chain = te.comm_reducer(_multiply_add, lambda dtype: tvm.tirx.const(0, dtype), name="chain")
    sums = te.compute(
        (cores, _CHAINS, lanes), lambda core, i, lane: chain(addend[lane], axis=step), name="sums"
    )
    func = te.create_prim_func([addend, sums]).with_attr("global_symbol", KERNEL)
    sch = Schedule(tvm.IRModule({KERNEL: func}))
    block = sch.get_sblock("sums")
    last = sch.cache_write(block, 0, "global")
    core, chains, lane, steps = sch.get_loops(block)
    sch.reorder(core, steps, chains, lane)
    sch.reverse_compute_at(last, core)
    sch.vectorize(lane)
    sch.unroll(chains)
    sch.vectorize(sch.get_loops(last)[-1])
    sch.parallel(core)
    sch.decompose_reduction(block, steps)
    return sch


def _multiply_add(total: Any, addend: Any) -> Any:
    return total * tvm.tirx.const(_FACTOR, "float32") + addend
