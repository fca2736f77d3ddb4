"""``doctor``: what is there, and what is wrong and what to do."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from tvm_eff.cli import doctor
from tvm_eff.device import opencl
from tvm_eff.device.opencl import OpenCLDevice
from tvm_eff.errors import DeviceError, SetupError

MALI = OpenCLDevice(
    library="libmali.so.1",
    platform="ARM Platform",
    name="Mali-T860",
    version="OpenCL 1.2",
    driver_version="1.2",
    extensions="cl_khr_fp16 cl_khr_icd",
    is_cpu=False,
    compute_units=4,
    clock_mhz=800,
    work_group=256,
    local_memory=32768,
    global_memory=4 << 30,
    allocation=1 << 30,
    alignment=128,
    cache=262144,
    allocated=0,
)


@pytest.fixture(autouse=True)
def mali(monkeypatch: pytest.MonkeyPatch) -> None:
    """A board's device: tests of real ones are in tests/opencl, in processes of their own."""
    monkeypatch.setattr(opencl, "load", lambda: Path("plugin.so"))
    monkeypatch.setattr(opencl, "devices", lambda: (MALI,))
    monkeypatch.setattr(opencl, "trouble", lambda number: "")


def _findings(capfd: pytest.CaptureFixture[str]) -> tuple[int, dict[tuple[str, str], Any]]:
    code = doctor.main(["--json"])
    told = json.loads(capfd.readouterr().out)
    return code, {(each["part"], each["what"]): each for each in told}


def test_wrong_version(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version
    monkeypatch.setattr(
        metadata, "version", lambda name: "0.1.15" if name == "apache-tvm-ffi" else real(name)
    )
    code, findings = _findings(capfd)
    assert code == 1
    found = findings["packages", "apache-tvm-ffi"]
    assert found["state"] == "wrong"
    assert "pip install apache-tvm-ffi==0.1.14.post1" in found["found"]


def test_no_compiler_and_no_linker(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail() -> Path:
        raise SetupError("no compiler")

    monkeypatch.setattr(opencl, "load", fail)
    monkeypatch.setenv("PATH", str(tmp_path))
    code, findings = _findings(capfd)
    # Boards without a GPU work without them.
    assert code == 0
    assert findings["tools", "g++"]["state"] == "missing"
    assert findings["OpenCL", "plug-in"] == {
        "part": "OpenCL",
        "what": "plug-in",
        "found": "no compiler",
        "state": "missing",
    }


def test_no_driver(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> tuple[OpenCLDevice, ...]:
        raise DeviceError("no driver. Tried:\n  libmali.so")

    monkeypatch.setattr(opencl, "devices", fail)
    assert doctor.main([]) == 0
    assert "- driver" in capfd.readouterr().out


def test_all_is_well(capfd: pytest.CaptureFixture[str]) -> None:
    code, findings = _findings(capfd)
    assert code == 0
    assert findings["packages", "apache-tvm"]["found"] == "0.27.0.post1"
    assert findings["opencl:0", "device"]["found"] == "Mali-T860"
    assert findings["opencl:0", "float16"]["found"] == "yes"
    assert findings["opencl:0", "local memory"]["found"] == "32 KiB"
    assert findings["opencl:0", "compute units"]["found"] == "4 at 800 MHz"


def test_text_says_the_same(capfd: pytest.CaptureFixture[str]) -> None:
    assert doctor.main([]) == 0
    told = capfd.readouterr().out
    for word in ("apache-tvm", "zig", "Mali-T860", "256 work-items", "4,096 MiB"):
        assert word in told


def test_driver_that_cannot_compile(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = "error: unknown target CPU 'generic'"
    monkeypatch.setattr(opencl, "trouble", lambda number: reason)
    code, findings = _findings(capfd)
    assert code == 1
    assert findings["opencl:0", "compiler"]["state"] == "wrong"
    assert findings["opencl:0", "compiler"]["found"] == reason
