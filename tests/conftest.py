"""What every test folder may use."""

from __future__ import annotations

import functools
import gc
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiers

from tvm_eff.errors import SetupError

# A shell starts what runs in the background with Ctrl-C ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Where tests run beside each other, PyTorch's threads would burn half of the time waiting.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# A fifth of the time that all files take to be imported; see pytest_collection_finish.
gc.disable()


def pytest_configure(config: pytest.Config) -> None:
    """Let TVM's threads sleep where tests run beside others, which measure no time.

    Between two kernels they would yield to each other 300,000 times: a fifth of two cores.
    """
    if hasattr(config, "workerinput"):
        os.environ.setdefault("TVM_THREAD_POOL_SPIN_COUNT", "0")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out files without a serial test where these are all that is asked for.

    To import all files takes ten seconds.
    """
    if not config.option.markexpr.startswith("serial") or collection_path.is_dir():
        return None
    file = collection_path.relative_to(config.rootpath).as_posix()
    return None if tiers.may_be_serial(file) else True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    tiers.mark(items)
    if hasattr(config, "workerinput"):
        _in_order(items)


def _in_order(items: list[pytest.Item]) -> None:
    """Sort tests that are run by several workers, of which each takes whole modules.

    A slow one that begins last would keep its worker alone. The first that needs an emulated
    board makes the parts, which takes minutes where nothing is cached; others would wait for it.
    """
    emulated = list(dict.fromkeys(item.path for item in items if "emulator" in _fixtures(item)))
    waiting = set(emulated[1:])
    items.sort(key=lambda each: (each.get_closest_marker("fast") is not None, each.path in waiting))


def _fixtures(item: pytest.Item) -> list[str]:
    return getattr(item, "fixturenames", [])


def pytest_sessionstart() -> None:
    """Look up PyTorch's operators once.

    It does so three times for each network, a tenth of what tests of networks take, and none is
    added meanwhile.
    """
    from torch._export import utils

    utils._materialize_cpp_cia_ops = functools.cache(utils._materialize_cpp_cia_ops)


def pytest_collection_finish() -> None:
    """Let the collector of garbage pass over what was imported, 400,000 objects each time.

    It also runs less often: PyTorch's traces are many objects that live as long as a test.
    """
    gc.freeze()
    gc.enable()
    gc.set_threshold(20_000, 50, 50)


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Seed what a module makes when it is imported, as networks for all of its tests."""
    if isinstance(collector, pytest.Module):
        _seed()


@pytest.fixture(autouse=True)
def seeded() -> None:
    """A test that fails is to fail again."""
    _seed()


def _seed() -> None:
    import torch

    torch.manual_seed(0)


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Lend a folder whose path is short enough for sockets, which xdist's are not."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def emulator() -> None:
    """Make the emulated boards' parts; skip where they cannot be had, but never in CI."""
    from tvm_eff.device import native_server
    from tvm_eff.device.counter import plugin_library
    from tvm_eff.device.emulator_image import emulator_command

    try:
        for arch in ("aarch64", "arm"):
            emulator_command(arch)
            native_server.build(arch)
        plugin_library()
    except SetupError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def emulated_board(emulator: None) -> Iterator[object]:
    """Lend one emulated Cortex-A72 to all tests; it is well again after each call."""
    from tvm_eff.device import EmulatedDevice

    with EmulatedDevice("aarch64", "cortex-a72") as board:
        yield board
