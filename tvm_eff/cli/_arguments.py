"""Values of options, checked while the command line is read."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable

from tvm_eff.errors import nearest


def positive(text: str) -> int:
    """Read a whole number of at least 1."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ArgumentTypeError(f"'{text}' is not a whole number of at least 1")
    return int(text)


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
