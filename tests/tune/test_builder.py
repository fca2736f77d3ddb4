"""Builder processes: what keeps them from starting is told before anything is built."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tvm_eff import tune
from tvm_eff.errors import SetupError


def test_temporary_folder_with_too_long_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("long" * 20)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with pytest.raises(SetupError, match=f"{long} has too long a path.*TMPDIR"):
        tune.preload()
