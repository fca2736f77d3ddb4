"""What the terminal shows while a session runs."""

from __future__ import annotations

import logging
from types import TracebackType

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from typing_extensions import Self

from tvm_eff.cli import interrupt
from tvm_eff.tune import Record, Task

console = Console(stderr=True)


class ConsoleProgress:
    """Shows the step the flow is at, and a bar of the candidates measured.

    Where there is no terminal, a line is printed for each step and each kernel.

    Attributes
    ----------
    measured_now, failed_now
        Candidates measured in this run, and how many of them failed.
    """

    def __init__(self) -> None:
        self.measured_now = 0
        self.failed_now = 0
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._candidates: TaskID | None = None
        self._kernel: str | None = None
        self._long: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._handler = RichHandler(console=console, show_time=False, show_path=False)
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
        interrupt.check()
        console.print(f"[bold]{what}[/bold]", highlight=False)

    def advanced(self, what: str, done: int, count: int) -> None:
        """Move the bar of something long; say that it begins where there is no terminal."""
        if what not in self._long:
            console.print(f"{what}, once for this machine: {count} parts", highlight=False)
            self._long[what] = self._bar.add_task(what, total=count)
        self._bar.update(self._long[what], completed=done, visible=done < count)

    def started(self, total: int, to_measure: int) -> None:
        """Print how much is to be measured and start the bar."""
        known = total - to_measure
        console.print(
            f"{total} candidates, {known} of them on record, {to_measure} to measure",
            highlight=False,
        )
        if to_measure:
            self._candidates = self._bar.add_task("measuring", total=to_measure)

    def measured(self, task: Task, record: Record, best: Record | None) -> None:
        """Count one candidate; print a line when a kernel is the first of its name."""
        interrupt.check()
        self.measured_now += 1
        self.failed_now += record.failure is not None
        if self._candidates is not None:
            self._bar.update(self._candidates, advance=1, description=task.label)
        if not console.is_terminal and task.name != self._kernel:
            console.print(f"measuring {task.label}", highlight=False)
        self._kernel = task.name
