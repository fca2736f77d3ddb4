"""Engines that go wrong in the ways real ones do; the model's name says in which."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from engines.base import Call, Job


def convert(job: Job) -> None:
    """Do nothing: there is no model."""


def load(job: Job) -> Call:
    """Return an inference that doubles its input, or does what the model's name says."""
    if job.model == "spins":
        threading.Thread(target=_spin, daemon=True).start()
    return _CALLS[job.model]


_POOL = ThreadPoolExecutor(2)


def _double(x: np.ndarray) -> np.ndarray:
    print("engines print where they like")
    return 2 * x


def _off(x: np.ndarray) -> np.ndarray:
    return 2 * x + 2e-4 * np.ptp(2 * x)


def _spin() -> None:
    while True:
        pass


def _busy_twice(x: np.ndarray) -> np.ndarray:
    for future in [_POOL.submit(_work) for _ in range(2)]:
        future.result()
    return 2 * x


def _work() -> None:
    until = time.perf_counter() + 0.1
    while time.perf_counter() < until:
        pass


def _hang(x: np.ndarray) -> np.ndarray:
    time.sleep(1000)
    return x


def _die(x: np.ndarray) -> np.ndarray:
    os.abort()


def _die_when_timed() -> Call:
    calls = 0

    def call(x: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        if calls > 20:
            raise MemoryError("no room for the twenty-first time")
        return 2 * x

    return call


def _settling() -> Call:
    calls = 0

    def call(x: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        # A turn has three or four calls: at first some are slow, and some are not.
        time.sleep(0.3 if calls < 24 and calls // 4 % 2 else 0.03)
        return 2 * x

    return call


_CALLS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "right": _double,
    "spins": _double,
    "wrong": _off,
    "hangs": _hang,
    "busy twice": _busy_twice,
    "dies": _die,
    "dies later": _die_when_timed(),
    "settles": _settling(),
}
