"""What a compilation tells while it runs, and how a terminal shows it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol

from typing_extensions import Self

from tvm_eff import tune
from tvm_eff.errors import UsageError
from tvm_eff.tune.options import Silent

if TYPE_CHECKING:
    from rich.progress import TaskID

    from tvm_eff.tune import Record, Task


class Progress(tune.Progress, Protocol):
    """Records events of a compilation."""

    def step(self, what: str) -> None:
        """A step begins."""

    def advanced(self, what: str, done: int, count: int | None) -> None:
        """`done` of `count` parts of something long are done; None if nobody knows the count."""


class NoProgress(Silent):
    """Ignores all events."""

    def step(self, what: str) -> None:
        """Do nothing."""

    def advanced(self, what: str, done: int, count: int | None) -> None:
        """Do nothing."""


class CountingProgress:
    """Passes events on, and counts candidates.

    Attributes
    ----------
    count, failures
        Candidates measured, and how many of them failed.
    """

    def __init__(self, inner: Progress) -> None:
        self._inner = inner
        self.count = self.failures = 0

    def step(self, what: str) -> None:
        """A step begins."""
        self._inner.step(what)

    def advanced(self, what: str, done: int, count: int | None) -> None:
        """Parts of something long are done."""
        self._inner.advanced(what, done, count)

    def started(self, total: int, to_measure: int, rechecked: int) -> None:
        """Measuring begins."""
        self._inner.started(total, to_measure, rechecked)

    def measured(self, task: Task, record: Record, best: Record | None) -> None:
        """Count a candidate."""
        self.count += 1
        self.failures += record.failure is not None
        self._inner.measured(task, record, best)


class RichProgress:
    """Shows the step that runs, and a bar of the candidates measured, on standard error.

    Use it with ``with``. Where there is no terminal, a line is printed for each step and
    each kernel.

    Parameters
    ----------
    on_event
        Called at every event; it may raise to end the work.
    budget
        Seconds that measuring may take, to show what is left of them.

    Attributes
    ----------
    measured_now, failed_now
        Candidates measured in this run, and how many of them failed.
    """

    def __init__(
        self, on_event: Callable[[], None] = lambda: None, budget: float = math.inf
    ) -> None:
        from rich.console import Console
        from rich.logging import RichHandler
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
        )
        from rich.progress import Progress as Bars

        self.measured_now = 0
        self.failed_now = 0
        self._on_event = on_event
        self._console = Console(stderr=True)
        self._handler = RichHandler(console=self._console, show_time=False, show_path=False)
        self._bar = Bars(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._candidates: TaskID | None = None
        self._step: TaskID | None = None
        self._kernel: str | None = None
        self._long: dict[str, TaskID] = {}
        self._budget, self._end = budget, math.inf

    def __enter__(self) -> Self:
        logging.getLogger("tvm_eff").addHandler(self._handler)
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
        logging.getLogger("tvm_eff").removeHandler(self._handler)

    def step(self, what: str) -> None:
        """Print the step that begins."""
        self._on_event()
        self._console.print(f"[bold]{what}[/bold]", highlight=False)
        if self._step is not None:
            self._bar.remove_task(self._step)
        # What has no parts to count shows that it goes on.
        self._step = self._bar.add_task(what, total=None)

    def advanced(self, what: str, done: int, count: int | None) -> None:
        """Move the bar of something long; say that it begins where there is no terminal."""
        self._on_event()
        if what not in self._long:
            if count is not None:
                self._print(f"{what}, once for this machine: {count} parts")
            self._long[what] = self._bar.add_task(what, total=count)
        self._bar.update(self._long[what], completed=done, visible=done != count)

    def started(self, total: int, to_measure: int, rechecked: int) -> None:
        """Print how much is to be measured and start the bar."""
        known = total - to_measure
        if rechecked == to_measure > 0:
            self._print(
                f"tuned on another machine or with other code: the best {to_measure} candidates "
                "of its records are measured here"
            )
        else:
            self._print(f"{total} candidates, {known} of them on record, {to_measure} to measure")
        if self._step is not None:
            self._bar.update(self._step, visible=False)
        if to_measure:
            self._end = time.monotonic() + self._budget
            self._candidates = self._bar.add_task("measuring", total=to_measure)

    def measured(self, task: Task, record: Record, best: Record | None) -> None:
        """Count one candidate; print a line when a kernel is the first of its name."""
        self._on_event()
        self.measured_now += 1
        self.failed_now += record.failure is not None
        if self._candidates is not None:
            shown = f"{task.label}{_best(best)}{self._left()}"
            self._bar.update(self._candidates, advance=1, description=shown)
        if not self._console.is_terminal and task.name != self._kernel:
            self._print(f"measuring {task.label}{_best(best)}")
        self._kernel = task.name

    def _left(self) -> str:
        if self._end == math.inf:
            return ""
        return f", {max(0.0, self._end - time.monotonic()):.0f} s of the budget left"

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False)


def _best(best: Record | None) -> str:
    """Say what the best candidate of a kernel costs so far."""
    if best is None:
        return ""
    if best.unit == "seconds":
        return f", best {best.value * 1e3:.3f} ms"
    return f", best {best.value / 1e6:.2f} M instructions"


def progress_of(progress: Progress | Literal["rich"] | None, stack: ExitStack) -> Progress:
    """Return what events are told to; what is shown ends with `stack`.

    Raises
    ------
    UsageError
        It is another word than ``rich``.
    """
    if progress is None:
        return NoProgress()
    if progress == "rich":
        return stack.enter_context(RichProgress())
    if isinstance(progress, str):
        raise UsageError(f"progress is '{progress}'; give \"rich\", an object, or nothing")
    return progress
