"""Engines taking turns: each is checked first, then timed round after round."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import psutil

from engines.base import Engine, Job
from engines.process import EngineError, EngineProcess, convert, python_of
from tvm_eff.tensors import relative_error

TOLERANCE = 1e-4
"""Largest error, as a fraction of the spread of PyTorch's output, of an engine that is timed."""

_CALLS = (2, 100)
_LEAST_TURNS = 3
_WARM_UP_S = 0.03


@dataclass(frozen=True)
class Options:
    """How engines take turns.

    Attributes
    ----------
    rounds
        Turns of each engine.
    turn_s
        How long the timed calls of a turn should take together; a slow network
        gets two calls all the same.
    timeout_s
        How long an engine may take to convert, load or answer.
    peers_python
        The Python of the engines that are not ours.
    logs
        The folder for what the engines print.
    engine_budget_s
        How long all turns of one engine may take together; a slow one takes fewer turns,
        evenly spread over the rounds, but never less than three.
    """

    rounds: int
    turn_s: float
    timeout_s: float
    peers_python: Path
    logs: Path
    engine_budget_s: float = math.inf


@dataclass(frozen=True)
class Outcome:
    """What came of one engine.

    Attributes
    ----------
    failure
        Why it was not timed, or None.
    versions
        The versions of its packages.
    error
        Its largest error as a fraction of the spread of PyTorch's output.
    rounds
        The seconds of every call, round by round; none in rounds it sat out.
    usage
        What it used of the machine in each turn, as :func:`engines.usage.since` says.
    """

    failure: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    error: float | None = None
    rounds: tuple[tuple[float, ...], ...] = ()
    usage: tuple[Mapping[str, float | None], ...] = ()


@dataclass(frozen=True)
class Comparison:
    """What came of all engines.

    Attributes
    ----------
    outcomes
        By the engine's name.
    other_load
        The share of the machine's cores that other programs took meanwhile.
    """

    outcomes: Mapping[str, Outcome]
    other_load: float


def compare(
    jobs: Mapping[Engine, Job],
    expected: np.ndarray,
    options: Options,
    say: Callable[[str], None],
) -> Comparison:
    """Start every engine, check its output, and time those that are right in turns.

    Parameters
    ----------
    jobs
        What each engine is to run.
    expected
        PyTorch's output.
    options
        How.
    say
        Hears what is happening.
    """
    outcomes: dict[str, Outcome] = {}
    running: dict[str, EngineProcess] = {}
    with contextlib.ExitStack() as stack:
        for engine, job in jobs.items():
            say(f"starting {engine.name}")
            try:
                process, outcomes[engine.name] = _start(engine, job, expected, options)
            except EngineError as error:
                outcomes[engine.name] = Outcome(failure=str(error))
                continue
            if process is not None:
                stack.callback(process.kill)
                running[engine.name] = process
        say(f"timing {len(running)} engines")
        before = _times(running)
        _rounds(running, outcomes, options)
        other_load = _other_load(before, _times(running))
    return Comparison({engine.name: outcomes[engine.name] for engine in jobs}, other_load)


def _start(
    engine: Engine, job: Job, expected: np.ndarray, options: Options
) -> tuple[EngineProcess | None, Outcome]:
    """Convert, load and check; return a stopped process unless the output is wrong."""
    python = python_of(engine, options.peers_python)
    log = options.logs / f"{engine.module}.log"
    if not engine.ours:
        convert(python, job, log, options.timeout_s)
    process = EngineProcess(python, "serve", job, log, options.timeout_s)
    try:
        output = options.logs / f"{engine.module}.npy"
        process.ask(output=str(output))
        outcome = Outcome(versions=process.versions, error=_error(np.load(output), expected))
        assert outcome.error is not None
        if outcome.error > TOLERANCE:
            process.kill()
            failure = f"wrong result: {outcome.error:.1e} of the spread off PyTorch's"
            return None, replace(outcome, failure=failure)
        process.stop()
    except BaseException:
        process.kill()
        raise
    return process, outcome


def _error(output: np.ndarray, expected: np.ndarray) -> float:
    # Some engines drop or add dimensions of extent 1 behind a pooling.
    return relative_error(
        output.reshape(expected.shape) if output.size == expected.size else output, expected
    )


def _rounds(
    running: dict[str, EngineProcess], outcomes: dict[str, Outcome], options: Options
) -> None:
    """Fill in the seconds; an engine that fails meanwhile is out."""
    calls: dict[str, int] = {}
    turns: dict[str, int] = {}
    # The turn before the first says how many calls fit into one; its times are thrown away.
    for turn in range(-1, options.rounds):
        for name, process in list(running.items()):
            outcome = outcomes[name]
            if turn >= 0 and not _takes_turn(turn, turns[name], options.rounds):
                outcomes[name] = replace(outcome, rounds=(*outcome.rounds, ()))
                continue
            started = time.monotonic()
            try:
                values, used = _turn(process, calls.get(name, _CALLS[0]))
            except EngineError as error:
                process.kill()
                del running[name]
                outcomes[name] = replace(outcome, failure=str(error), rounds=(), usage=())
                continue
            if turn < 0:
                calls[name] = int(np.clip(options.turn_s / np.median(values), *_CALLS))
                timed = calls[name] * float(np.median(values))
                turns[name] = _turns(max(time.monotonic() - started, timed), options)
                continue
            rounds = (*outcome.rounds, tuple(values))
            outcomes[name] = replace(outcome, rounds=rounds, usage=(*outcome.usage, used))


def _turns(seconds: float, options: Options) -> int:
    """Return how many turns of so many seconds an engine takes."""
    affordable = min(options.engine_budget_s / seconds, options.rounds)
    return min(options.rounds, max(_LEAST_TURNS, int(affordable)))


def _takes_turn(turn: int, turns: int, rounds: int) -> bool:
    """Whether a round is one of those an engine takes, evenly spread over all."""
    return (turn + 1) * turns // rounds > turn * turns // rounds


def _turn(process: EngineProcess, calls: int) -> tuple[list[float], dict[str, float | None]]:
    with process.turn():
        answer = process.ask(calls=calls, warm_up_s=_WARM_UP_S)
    return answer["seconds"], answer["usage"]


@dataclass(frozen=True)
class _Times:
    wall: float
    machine: float
    engines: Mapping[str, float]


def _times(running: Mapping[str, EngineProcess]) -> _Times:
    times = psutil.cpu_times()
    busy = sum(times) - times.idle - getattr(times, "iowait", 0.0)
    # Linux counts a guest's time twice.
    busy -= getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    engines = {name: process.cpu_seconds() for name, process in running.items()}
    return _Times(time.monotonic(), busy, engines)


def _other_load(before: _Times, after: _Times) -> float:
    """Return which share of the cores went to others between two moments."""
    ours = sum(after.engines[name] - before.engines[name] for name in after.engines)
    available = (after.wall - before.wall) * (psutil.cpu_count() or 1)
    return max(0.0, (after.machine - before.machine - ours) / available)
