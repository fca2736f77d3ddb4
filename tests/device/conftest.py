"""Each kind of device, for the tests that run on all of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from places import BOARDS, HERE, Place, surviving_server

from tvm_eff.device import EmulatedDevice, LocalDevice, RpcDevice
from tvm_eff.testing import Libraries

KINDS = ("local", "rpc", "emulated aarch64", "emulated arm")


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Libraries:
    return Libraries(tmp_path_factory.mktemp("libraries"))


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Every kind of device in turn."""
    with ExitStack() as stack:
        yield _place(request.param, request, stack)


def _place(kind: str, request: pytest.FixtureRequest, stack: ExitStack) -> Place:
    if kind == "local":
        return Place(HERE, lambda timeout: LocalDevice(threads=1, timeout=timeout))
    if kind == "rpc":
        server = stack.enter_context(surviving_server())
        port, key = server.port, server.key
        return Place(HERE, lambda timeout: RpcDevice("127.0.0.1", port, key, timeout))
    request.getfixturevalue("emulator")
    arch = kind.split()[1]
    return Place(BOARDS[arch], lambda timeout: EmulatedDevice(arch, timeout=timeout))
