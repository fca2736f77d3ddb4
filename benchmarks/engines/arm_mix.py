"""What an emulated 64-bit Arm board executes, by kind of instruction."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tvm_eff.device import EmulatedDevice, Measurement, MeasureOptions
from tvm_eff.device.counter import Counter, plugin_library

_SOURCE = Path(__file__).with_name("arm_mix.c")


@dataclass(frozen=True)
class Mix:
    """Executed instructions.

    Attributes
    ----------
    instructions
        All of them.
    fmas
        Vector multiply-adds, and what multiplies integers of bytes or sums their products.
    loads
        Loads; one of several registers counts once.
    stores
        Stores, likewise.
    """

    instructions: int
    fmas: int
    loads: int
    stores: int

    def __sub__(self, other: Mix) -> Mix:
        return Mix(
            self.instructions - other.instructions,
            self.fmas - other.fmas,
            self.loads - other.loads,
            self.stores - other.stores,
        )

    def __floordiv__(self, runs: int) -> Mix:
        return Mix(
            self.instructions // runs, self.fmas // runs, self.loads // runs, self.stores // runs
        )


class MixCounter(Counter):
    """A counter that also tells kinds of instructions apart."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with path.open("rb") as file:
            self._counts = mmap.mmap(file.fileno(), mmap.PAGESIZE, access=mmap.ACCESS_READ)

    def mix_at_rest(self) -> Mix:
        """Return the counts once they stand still."""
        self.read_at_rest()
        return Mix(*struct.unpack_from("<4Q", self._counts))

    def close(self) -> None:
        """Let go of the file, which stays."""
        self._counts.close()
        super().close()

    def _library(self) -> Path:
        return plugin_library(_SOURCE)


class MixDevice(EmulatedDevice):
    """An emulated board that keeps the mix of what it measured last."""

    mix: Mix | None = None

    def __init__(self, arch: str, cpu: str) -> None:
        super().__init__(arch, cpu, counter=MixCounter)

    def _measure(
        self,
        once: Callable[[], None],
        evaluate: Callable[[int, int], Sequence[float]],
        options: MeasureOptions,
    ) -> Measurement:
        assert isinstance(self._counter, MixCounter)
        before = self._counter.mix_at_rest()
        once()
        self.mix = self._counter.mix_at_rest() - before
        return Measurement((float(self.mix.instructions),), "instructions")
