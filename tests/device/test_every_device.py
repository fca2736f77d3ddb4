"""All kinds of devices keep the contract, and what they have in common besides."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
from places import Place

from tvm_eff.device import Device
from tvm_eff.device.connection import Connection
from tvm_eff.errors import ExecutionError
from tvm_eff.targets import Target
from tvm_eff.testing import DeviceConformance, Libraries, MakeDevice


class TestEveryDevice(DeviceConformance):
    @pytest.fixture
    def make_device(self, place: Place) -> MakeDevice:
        return place.make

    @pytest.fixture
    def target(self, place: Place) -> Target:
        return place.target

    @pytest.fixture(scope="session")
    @classmethod
    def libraries(cls, libraries: Libraries) -> Libraries:
        """The folder's own, which other tests have built already."""
        return libraries

    def test_a_library_that_is_kept_is_sent_once(
        self,
        device: Device,
        target: Target,
        libraries: Libraries,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        sent: list[int] = []
        upload = Connection.uploaded

        def counted(connection: Connection, library: bytes) -> AbstractContextManager[Any]:
            sent.append(len(library))
            return upload(connection, library)

        monkeypatch.setattr(Connection, "uploaded", counted)
        x, ones = np.arange(5, dtype="float32"), np.ones((4, 8), "float32")
        square = libraries.square(target)
        for _ in range(3):
            device.run(square, [x], keep=True)
        assert len(sent) == 1
        # Another library takes its place, and so does the next one.
        device.run(libraries.pair(target), [ones, ones], keep=True)
        device.run(square, [x], keep=True)
        assert len(sent) == 3
        # What a crash took with it is sent again.
        with pytest.raises(ExecutionError):
            device.call(libraries.behaviour(target), "crash", [], [])
        device.run(square, [x], keep=True)
        device.forget()
        device.run(square, [x], keep=True)
        assert len(sent) == 6

    def test_it_says_where_and_what_it_is(self, device: Device) -> None:
        assert any(word in device.where for word in ("this machine", "rpc", "emulated"))
        assert device.identity.cores > 0 or "qemu" in device.identity.system
        assert device.repeatable == (device.unit == "instructions")
        assert not device.stands_in
