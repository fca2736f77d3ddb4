"""What a lost call says: of the code, or of the device that cannot run what is made for it."""

from __future__ import annotations

import pytest

from tvm_eff.device.connection import SessionLostError
from tvm_eff.device.trouble import failure
from tvm_eff.errors import (
    ExecutionError,
    InterruptedExecutionError,
    UnsuitableDeviceError,
)

LOADING = "cannot load a library on the board: /tmp/1.so: "


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        (f"{LOADING}wrong ELF class: ELFCLASS64", "--target of the system"),
        (f"{LOADING}cannot open shared object file: No such file", "--target of the system"),
        (f"{LOADING}version `GLIBC_2.34' not found", "lower 'glibc'"),
        (f"{LOADING}failed to map segment from shared object", "noexec"),
        ("No space left on device", "make room"),
    ],
)
def test_what_no_candidate_can_help(reason: str, advice: str) -> None:
    error = failure("rpc board:9090", "'main' of 1.so", SessionLostError(reason, hung=False))
    assert isinstance(error, UnsuitableDeviceError)
    assert reason in str(error)
    assert advice in str(error)
    assert "rpc board:9090" in str(error)


@pytest.mark.parametrize(
    ("reason", "hung"),
    [
        ("no answer within 60 s", True),
        (f"{LOADING}file too short", False),
        (f"{LOADING}invalid ELF header", False),
        ("the session's process on the board ended with signal 4 (Illegal instruction)", False),
        ("it crashed: the process that ran it ended with signal 4 (Illegal instruction)", False),
        ("it crashed: the process that ran it ended", False),
        ("it crashed: the process that ran it ended with signal 11 (Segmentation fault)", False),
        ("the session's process on the board ended with signal 6 (Aborted)", False),
    ],
)
def test_what_may_have_another_cause(reason: str, hung: bool) -> None:
    error = failure("here", "'main' of 1.so", SessionLostError(reason, hung=hung))
    assert isinstance(error, InterruptedExecutionError)


@pytest.mark.parametrize(
    "reason", [f"{LOADING}undefined symbol: no_such_function", "Check failed: (x < 3) is false"]
)
def test_what_is_the_codes_own(reason: str) -> None:
    error = failure("here", "'main' of 1.so", SessionLostError(reason, hung=False))
    assert type(error) is ExecutionError
