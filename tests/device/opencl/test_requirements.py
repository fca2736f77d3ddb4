"""What a device lacks is said in full, before a kernel runs there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tvm_eff.device.opencl import OpenCLDevice, unmet_requirements
from tvm_eff.targets import OpenCLRequirements

REQUIREMENTS = OpenCLRequirements("1.2", ("cl_khr_fp16",), work_group=256, local_memory=4096)
DEVICE = OpenCLDevice(
    library="libmali.so",
    platform="ARM Platform",
    name="Mali-T860",
    version="OpenCL 1.2 v1.r14p0",
    driver_version="1.2",
    extensions="cl_khr_global_int32_base_atomics cl_khr_fp16",
    is_cpu=False,
    compute_units=4,
    clock_mhz=800,
    work_group=256,
    local_memory=32768,
    global_memory=1 << 30,
    allocation=1 << 28,
    alignment=128,
    cache=1 << 18,
    allocated=0,
)


@pytest.mark.parametrize(
    ("needed", "expected"),
    [
        ({"extensions": ("cl_khr_fp64", "cl_khr_fp16")}, "the extension cl_khr_fp64"),
        # A name that another one begins with.
        ({"extensions": ("cl_khr_fp1",)}, "the extension cl_khr_fp1"),
        ({"version": "3.0"}, r"OpenCL 3.0 (it has 'OpenCL 1.2 v1.r14p0')"),
        ({"work_group": 257}, "work-groups of 257 work-items (it allows 256)"),
        ({"local_memory": 32769}, "32769 bytes of local memory (it has 32768)"),
    ],
)
def test_what_is_unmet_requirements(needed: dict[str, Any], expected: str) -> None:
    assert unmet_requirements(replace(REQUIREMENTS, **needed), DEVICE) == (expected,)


def test_a_driver_that_tells_no_version_has_none() -> None:
    assert unmet_requirements(REQUIREMENTS, replace(DEVICE, version="")) == (
        "OpenCL 1.2 (it has '')",
    )


def test_nothing_is_unmet_requirements() -> None:
    assert unmet_requirements(REQUIREMENTS, DEVICE) == ()
    assert (
        unmet_requirements(
            replace(REQUIREMENTS, version="1.1"), replace(DEVICE, version="OpenCL 3.0 x")
        )
        == ()
    )
