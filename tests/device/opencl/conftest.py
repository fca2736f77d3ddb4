"""OpenCL in a process of its own: drivers start threads, and other tests fork this one."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest
from loaded_process import load_drivers

from tvm_eff.device import opencl
from tvm_eff.device.opencl.drivers import driver
from tvm_eff.errors import SetupError

Run = Callable[..., Any]

# Sorted by the names of their platforms, as the plug-in does.
DRIVERS = ("intel", "pocl")


@pytest.fixture(scope="session")
def drivers() -> tuple[str, ...]:
    """Return the software drivers; skip where one cannot be had, but never in CI."""
    try:
        for name in DRIVERS:
            driver(name)
        opencl.build()
    except SetupError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
    return DRIVERS


@pytest.fixture(scope="session")
def caches(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Keep programs out of the user's caches."""
    folder = tmp_path_factory.mktemp("opencl")
    (folder / "pocl").mkdir()
    return {
        "TVM_EFF_OPENCL_CACHE": str(folder / "programs"),
        "POCL_CACHE_DIR": str(folder / "pocl"),
    }


@pytest.fixture(scope="session")
def run(drivers: tuple[str, ...], caches: dict[str, str]) -> Iterator[Run]:
    """Run a function where OpenCL is loaded; it is the same process all the time.

    That it runs the next function shows that the last one has left it alive.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, load_drivers, (drivers, caches)) as executor:
        yield lambda function, *arguments: executor.submit(function, *arguments).result(120)


@pytest.fixture(params=range(len(DRIVERS)), ids=DRIVERS)
def number(request: pytest.FixtureRequest) -> int:
    """Every device in turn."""
    return int(request.param)
