"""What an inference cost when a bundle was made: a file of its own beside the manifest.

Two builds of the same network from the same records differ in nothing but this, so that the rest
can be compared byte for byte, and signed.
"""

from __future__ import annotations

import json
import os
import statistics
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from tvm_eff import paths, strict
from tvm_eff.errors import BundleError, UsageError
from tvm_eff.strict import Finite

NAME = "measurement.json"

_ADVICE = "remove it, as nothing else needs it, or build the bundle again"
_MOST_BYTES = 1 << 20
_VARIABLE = "SOURCE_DATE_EPOCH"


@dataclass(frozen=True)
class MeasuredCost:
    """What an inference cost where.

    Attributes
    ----------
    unit
        Seconds, or executed instructions, which are no latency.
    values
        One or several values.
    where
        The device, in words.
    date
        The day in UTC, such as 2026-11-22.
    """

    unit: Literal["seconds", "instructions"]
    values: tuple[Finite, ...]
    where: str
    date: str

    @property
    def median(self) -> float:
        """The middle value; 0 if there is none."""
        return statistics.median(self.values or (0.0,))


def write(path: Path, measured: MeasuredCost) -> None:
    """Write the file."""
    path.write_text(json.dumps(asdict(measured), indent=2, allow_nan=False) + "\n", "utf-8")


def read(path: Path) -> MeasuredCost | None:
    """Read the file; return None if there is none.

    Raises
    ------
    BundleError
        It cannot be read, or holds something else.
    """
    if not path.exists():
        return None
    content = paths.read_regular(path, _MOST_BYTES, BundleError, _ADVICE)
    data = strict.decode_json(content, where=path, error=BundleError, advice=_ADVICE)
    return strict.convert(
        data, MeasuredCost, where=path, error=BundleError, advice=_ADVICE, complete=True
    )


def build_time() -> datetime:
    """Return the time that a build says it was made at: now, or ``SOURCE_DATE_EPOCH``'s.

    The variable is that of https://reproducible-builds.org/specs/source-date-epoch.

    Raises
    ------
    UsageError
        The variable is set to what is no time.
    """
    given = os.environ.get(_VARIABLE)
    if not given:
        return datetime.now(timezone.utc)
    try:
        return datetime.fromtimestamp(int(given), timezone.utc)
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(
            f"{_VARIABLE} is '{given}'; set it to seconds since 1970, or unset it"
        ) from error
