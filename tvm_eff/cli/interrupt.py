"""Ctrl-C that is not lost.

Python raises KeyboardInterrupt wherever it stands. In a finalizer, or in a callback from
another language, that is printed at most, and the program goes on; so it is remembered too.
"""

from __future__ import annotations

import signal
from types import FrameType
from typing import NoReturn

_seen: list[int] = []


def remember() -> None:
    """Have Ctrl-C remembered from now on, unless it is ignored, as in a shell's background."""
    _seen.clear()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def forget() -> None:
    """Have Ctrl-C do again what it does in Python."""
    if signal.getsignal(signal.SIGINT) is _interrupt:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def check() -> None:
    """Raise KeyboardInterrupt again if one was lost; to be called now and then."""
    if _seen:
        raise KeyboardInterrupt


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    _seen.append(number)
    raise KeyboardInterrupt
