"""One network the whole way: traced, imported, proved, lowered, built, and run as PyTorch runs it.

Its kernels have the most promising of our schedules, or none; nothing is measured.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from tvm_eff import frontend, passes, targets
from tvm_eff.deploy.library import build_library
from tvm_eff.deploy.proof import prove
from tvm_eff.deploy.validate import case_of, validate
from tvm_eff.device import LocalDevice
from tvm_eff.errors import Error, ModelError, ValidationError
from tvm_eff.models import Network, Program, trace
from tvm_eff.scratch import scratch_folder
from tvm_eff.tensors import TOLERANCE, validation_inputs, varied_inputs

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from records import most_promising

CASES = 3
"""How many inputs a library is compared on."""


@dataclass
class Outcome:
    """What became of a network.

    Attributes
    ----------
    kind
        right, refused, wrong, crashed, or left out: PyTorch itself does not take it.
    words
        Why, unless it is right.
    operators
        How many were proved.
    seconds
        How long each step took.
    """

    kind: str = "right"
    words: str = ""
    operators: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        times = ", ".join(f"{step} {seconds:.1f} s" for step, seconds in self.seconds.items())
        words = f": {self.words}" if self.words else ""
        return f"{self.kind}, {self.operators} operators; {times}{words}"

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure a step."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = time.monotonic() - start

    def becomes(self, kind: str, error: BaseException) -> Outcome:
        """Return it as something else than right."""
        self.kind = kind
        known = "" if isinstance(error, Error) else f"{type(error).__name__}: "
        self.words = f"{known}{str(error)[:1500]}"
        return self


def attempt(network: Network, device: LocalDevice, *, scheduled: bool = True) -> Outcome:
    """Take a network the whole way; what it raises is in the outcome."""
    outcome = Outcome()
    try:
        with outcome.step("export"):
            program = trace(network)
    except ModelError as error:
        return outcome.becomes("left out", error)
    try:
        with outcome.step("import"):
            core = frontend.decompose(program)
            imported = frontend.import_program(program, core)
    except ModelError as error:
        ours = error.__cause__ is None or isinstance(error.__cause__, Error)
        return outcome.becomes("refused" if ours else "crashed", error)
    except Exception as error:
        return outcome.becomes("crashed", error)
    try:
        with outcome.step("proof"):
            outcome.operators = prove(program, core, varied_inputs(network.inputs))
        with outcome.step("build and run"):
            _compare(program, imported, device, scheduled)
    except (ModelError, ValidationError) as error:
        return outcome.becomes("wrong", error)
    except Exception as error:
        return outcome.becomes("crashed", error)
    return outcome


def _compare(
    program: Program, imported: passes.RelaxNetwork, device: LocalDevice, scheduled: bool
) -> None:
    host = targets.load("host")
    # What LLVM does is not asked here, and takes most of the time.
    host = replace(host, tvm={**host.tvm, "opt-level": 0})
    lowered = passes.lower(imported, host)
    with scratch_folder() as folder:
        library = folder / "model.so"
        build_library(lowered, most_promising(lowered, host) if scheduled else None, host, library)
        cases = []
        for number in range(CASES):
            with suppress(ModelError):  # PyTorch's own output is NaN: nothing can be compared
                cases.append(case_of(program, validation_inputs(program.network.inputs, number)))
        if cases:
            validate(device, library, cases, TOLERANCE)
