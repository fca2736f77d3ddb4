"""An engine in a process of its own: ``python -m engines.worker`` in the folder benchmarks.

It reads a :class:`~engines.base.Job` as one line, converts the model or loads it,
and answers questions, a line of JSON each, until its input ends.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from engines import usage
from engines.base import Call, Job
from engines.parent import end_with_parent


def main() -> None:
    """Do what the first line of the input asks for, and answer what follows."""
    answers = _private_stdout()
    # A stopped process would outlive a parent that was killed.
    end_with_parent()
    action, job = sys.argv[1], Job.from_json(sys.stdin.readline())
    # Before the engine is imported: its threads inherit it.
    os.sched_setaffinity(0, job.cores)
    try:
        module = importlib.import_module(job.module)
        if action == "convert":
            module.convert(job)
        else:
            call: Call = module.load(job)
    except Exception as error:
        _answer(answers, {"failure": _reason(error)})
        raise
    _answer(answers, {"versions": _versions(job.packages)})
    if action == "convert":
        return
    x = np.load(job.input)
    for line in sys.stdin:
        _answer(answers, _do(json.loads(line), call, x))


def _private_stdout() -> TextIO:
    """Keep the way back to ourselves: engines print where they like."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def _answer(answers: TextIO, values: dict[str, Any]) -> None:
    print(json.dumps(values), file=answers, flush=True)


def _reason(error: Exception) -> str:
    text = next((line for line in str(error).splitlines() if line.strip()), "")
    if isinstance(error, ModuleNotFoundError):
        return f"not installed: {text}"
    # Where packages lie is no part of a reason.
    text = re.sub(r"/\S+/site-packages/", "", text)
    return f"{type(error).__name__}: {text}"[:200]


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _do(question: dict[str, Any], call: Call, x: np.ndarray) -> dict[str, Any]:
    if "output" in question:
        np.save(Path(question["output"]), call(x))
        return {}
    # Caches and thread pools have seen another engine since the last turn.
    until = time.perf_counter() + question["warm_up_s"]
    call(x)
    while time.perf_counter() < until:
        call(x)
    values = []
    before = usage.now()
    for _ in range(question["calls"]):
        started = time.perf_counter()
        call(x)
        values.append(time.perf_counter() - started)
    return {"seconds": values, "usage": usage.since(before)}


if __name__ == "__main__":
    main()
