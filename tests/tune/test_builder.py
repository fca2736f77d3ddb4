"""Builder processes: what keeps them from starting is told before anything is built."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tvm_eff import tune
from tvm_eff.errors import SetupError
from tvm_eff.tune.builder import Builder


def test_temporary_folder_with_too_long_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("long" * 20)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with pytest.raises(SetupError, match=f"{long} has too long a path.*TMPDIR"):
        tune.preload()


def test_builders_import_torch_only_if_a_script_does() -> None:
    with Builder(workers=1) as builder:
        loaded = builder.submit(eval, "{'torch', 'tvm'} & set(__import__('sys').modules)")
        assert loaded.result() == {"tvm"}
        assert builder.submit(eval, "__import__('torch').ones(2).sum().item()").result() == 2
