"""Ctrl-C that is not lost, and the other signals that ask a program to end.

Python raises KeyboardInterrupt wherever it stands. In a finalizer, or in a callback from
another language, that is printed at most, and the program goes on; so it is remembered too.
A closed terminal and ``kill`` end the work in the same way: what was started is stopped, and
what lies in temporary folders removed.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

_ENDING = (signal.SIGTERM, *((signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()))
_PATIENCE = 3
"""How often one has to ask until nothing more is stopped or removed."""

_seen: list[int] = []
_before: dict[int, object] = {}


def remember() -> None:
    """Have these signals remembered from now on, unless they are ignored, as by nohup."""
    _seen.clear()
    if threading.current_thread() is not threading.main_thread():
        return
    usual = {signal.SIGINT: signal.default_int_handler, **dict.fromkeys(_ENDING, signal.SIG_DFL)}
    for number, handler in usual.items():
        if signal.getsignal(number) is handler:
            _before[number] = handler
            signal.signal(number, _interrupt)


def forget() -> None:
    """Have these signals do again what they do in Python."""
    for number, handler in _before.items():
        if signal.getsignal(number) is _interrupt:
            signal.signal(number, handler)  # type: ignore[arg-type]
    _before.clear()


def check() -> None:
    """Raise KeyboardInterrupt again if one was lost; to be called now and then."""
    if _seen:
        raise KeyboardInterrupt


def exit_code() -> int:
    """Return what shells say of a program that the first of these signals ended."""
    return 128 + (_seen[0] if _seen else signal.SIGINT)


def _interrupt(number: int, frame: FrameType | None) -> None:
    _seen.append(number)
    if len(_seen) == 1:
        raise KeyboardInterrupt
    # The first one is being answered, which is not to be torn in two.
    if len(_seen) >= _PATIENCE:
        os._exit(exit_code())
