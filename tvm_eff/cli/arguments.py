"""Values of options, checked while the command line is read."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable

from tvm_eff.errors import nearest

_UNITS = {"s": 1, "m": 60, "h": 3600}


def positive(text: str) -> int:
    """Read a whole number of at least 1."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ArgumentTypeError(f"'{text}' is not a whole number of at least 1")
    return int(text)


def seconds(text: str) -> float:
    """Read a span of time, such as ``90s``, ``2m`` or ``1h``; a bare number is seconds."""
    number, factor = (text[:-1], _UNITS[text[-1]]) if text[-1:] in _UNITS else (text, 1)
    try:
        value = float(number) * factor
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ArgumentTypeError(f"'{text}' is not a span of time; write 90s, 2m or 1h")
    return value


def share(text: str) -> float:
    """Read a share of something, above 0 and at most 1."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise ArgumentTypeError(f"'{text}' is not a share; write a number up to 1, such as 0.95")
    return value


def one_of(kind: str, known: Iterable[str]) -> Callable[[str], str]:
    """Return a reader of one of the `known` words that offers the nearest ones.

    Parameters
    ----------
    kind
        What the words are, such as "model".
    known
        The words.
    """
    words = tuple(known)

    def read(text: str) -> str:
        if text in words:
            return text
        raise ArgumentTypeError(f"unknown {kind} '{text}'{nearest(text, words)}")

    return read
