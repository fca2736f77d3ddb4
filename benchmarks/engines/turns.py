"""Engines taking turns: each is checked first, then timed round after round."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from engines import quiet
from engines.base import Engine, Job
from engines.process import EngineError, EngineProcess, convert, python_of
from engines.quiet import Limits, Quietness
from tvm_eff.tensors import relative_error

TOLERANCE = 1e-4
"""Largest error, as a fraction of the spread of PyTorch's output, of an engine in float32."""

QUANTIZED_TOLERANCE = 0.25
"""That of an engine in int8, which tells a network from another: its error stands beside it."""

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
    attempts
        How often all rounds are timed, at most, until the machine is quiet.
    limits
        When it is not.
    watch_s
        How long others are watched before the first turn.
    tolerance
        The largest error of an engine that is timed, as a fraction of the spread of PyTorch's
        output.
    """

    rounds: int
    turn_s: float
    timeout_s: float
    peers_python: Path
    logs: Path
    engine_budget_s: float = math.inf
    attempts: int = 1
    limits: Limits = field(default_factory=Limits)
    watch_s: float = 1.0
    tolerance: float = TOLERANCE


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
    """What came of all engines, in the quietest attempt.

    Attributes
    ----------
    outcomes
        By the engine's name.
    quietness
        What was seen of the machine meanwhile.
    disturbances
        Why it was not quiet; nothing if it was.
    attempts
        How often all rounds were timed.
    """

    outcomes: Mapping[str, Outcome]
    quietness: Quietness
    disturbances: tuple[str, ...] = ()
    attempts: int = 1


def compare(
    jobs: Mapping[Engine, Job],
    expected: np.ndarray,
    options: Options,
    say: Callable[[str], None],
) -> Comparison:
    """Start every engine, check its output, and time those that are right in turns.

    Where the machine is not quiet, all of them are timed again, and the quietest attempt
    counts.

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
        return _quietest(running, outcomes, options, say)


def _quietest(
    running: dict[str, EngineProcess],
    started: dict[str, Outcome],
    options: Options,
    say: Callable[[str], None],
) -> Comparison:
    """Time the engines until the machine is quiet, and return the quietest attempt."""
    found: list[Comparison] = []
    while len(found) < options.attempts:
        say(f"timing {len(running)} engines")
        outcomes = {name: _without_rounds(each, name in running) for name, each in started.items()}
        quietness = _attempt(running, outcomes, options)
        disturbances = tuple(quietness.disturbances(options.limits))
        found.append(Comparison(outcomes, quietness, disturbances))
        if not disturbances or not running:
            break
        say(f"not quiet: {'; '.join(disturbances)}")
        started = outcomes
    best = min(found, key=lambda each: each.quietness.excess(options.limits))
    return replace(best, attempts=len(found))


def _without_rounds(outcome: Outcome, runs: bool) -> Outcome:
    """Return how an engine stands before an attempt; one that has failed stays out."""
    return replace(outcome, rounds=(), usage=()) if runs else outcome


def _attempt(
    running: dict[str, EngineProcess], outcomes: dict[str, Outcome], options: Options
) -> Quietness:
    """Fill in the seconds of all rounds, and return how quiet the machine was."""
    load_average = quiet.load_average()
    before = quiet.others_during(options.watch_s)
    start = quiet.now()
    _rounds(running, outcomes, options)
    during = quiet.others(start, quiet.now())
    spread = quiet.spread({name: outcomes[name].rounds for name in running})
    return Quietness(load_average, before, during, spread)


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
        if outcome.error > options.tolerance:
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
