"""A network whose kernels all have a winner on record."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tvm_eff import frontend, models, passes, tensors
from tvm_eff.deploy.library import build_library
from tvm_eff.errors import RecordError
from tvm_eff.models import Program
from tvm_eff.passes import RelaxNetwork
from tvm_eff.schedules import Candidate
from tvm_eff.targets import Target
from tvm_eff.tune import RecordStore, Task, extract


@dataclass(frozen=True)
class Network:
    """A network on its way to a library.

    Attributes
    ----------
    program
        The traced program.
    lowered
        Its kernels.
    tasks
        Those that differ, the most work first.
    target
        What it is built for.
    """

    program: Program
    lowered: RelaxNetwork
    tasks: list[Task]
    target: Target

    def build(self, store: RecordStore, folder: Path) -> Path:
        """Build the library with the winners and return its file."""
        library = folder / "model.so"
        build_library(self.lowered, self.winners(store), self.target, library)
        return library

    def winners(self, store: RecordStore) -> dict[str, Candidate]:
        """Return the best candidates on record."""
        best = {task.workload: store.best(task.workload) for task in self.tasks}
        return {name: record.candidate for name, record in best.items() if record is not None}

    def inputs(self) -> list[np.ndarray]:
        """Return random inputs."""
        return tensors.random_inputs(self.program.network.inputs)


def load(model: str, target: Target, store: RecordStore) -> Network:
    """Trace and lower a network of the zoo.

    Raises
    ------
    RecordError
        One of its kernels has no winner.
    """
    program = models.trace(models.load(model))
    lowered = passes.lower(frontend.import_program(program), target)
    tasks = extract(lowered.mod)
    missing = [task.label for task in tasks if store.best(task.workload) is None]
    if missing:
        raise RecordError(
            f"{store.folder} has no record of {len(missing)} kernels of {model}, such as "
            f"{missing[0]}; run: python scripts/tune.py --target {target.name} --model {model}"
        )
    return Network(program, lowered, tasks, target)
