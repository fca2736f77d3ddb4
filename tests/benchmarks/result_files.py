"""Files of results for tests of what reads them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

from results_file import Result  # noqa: E402

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def result_of(data: dict[str, Any], **envelope: Any) -> Result:
    """Return the result of a run at a commit, on a machine called m."""
    about: dict[str, Any] = {
        "commit": COMMIT,
        "dirty": False,
        "command": "python benchmarks/some.py --rounds 3",
        "date": "2026-01-01",
        "machine": {"name": "m", "cores": 2, "words": "m (2 threads)"},
        "versions": {"python": "3.11.2"},
    }
    return Result(**(about | envelope), data=data)
