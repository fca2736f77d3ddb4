"""Our library, from its bundle."""

from __future__ import annotations

from typing import cast

from engines.base import Call, Job


def load(job: Job) -> Call:
    """Return one inference."""
    import tvm_eff

    assert job.bundle is not None, "it is built before any engine is started"
    # Not wrapped, which would be timed with it: the networks compared have one output.
    return cast(Call, tvm_eff.load(job.bundle))
