"""Values of options, checked while the command line is read."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterable
from pathlib import Path

from tvm_eff.errors import nearest

_UNITS = {"s": 1, "m": 60, "h": 3600}
_SIZES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 1 << 10, "MiB": 1 << 20}


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


def byte_count(text: str) -> int:
    """Read a size, such as ``8MB``, ``800kB`` or ``8MiB``; a bare number is bytes."""
    unit = next((each for each in sorted(_SIZES, key=len)[::-1] if text.endswith(each)), "")
    try:
        value = float(text.removesuffix(unit)) * _SIZES.get(unit, 1)
    except ValueError:
        value = 0.0
    if not 1 <= value < 2**63:
        raise ArgumentTypeError(f"'{text}' is not a size; write 8MB, 800kB or 8MiB")
    return int(value)


def share(text: str) -> float:
    """Read a share of something, above 0 and at most 1."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise ArgumentTypeError(f"'{text}' is not a share; write a number up to 1, such as 0.95")
    return value


def drop(text: str) -> float:
    """Read a loss that is allowed, such as ``1%`` or ``0.01``: at most all of it."""
    number, factor = (text[:-1], 0.01) if text.endswith("%") else (text, 1.0)
    try:
        value = float(number) * factor
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ArgumentTypeError(
            f"'{text}' is not a loss that can be allowed; write a share up to 100%, such as 1% or "
            "0.01"
        )
    return value


def add_public_key(parser: ArgumentParser) -> None:
    """Add the option that says who must have signed a bundle."""
    parser.add_argument(
        "--public-key",
        type=Path,
        metavar="FILE",
        help="take the bundle only if the owner of this Ed25519 key has signed it",
    )


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
