"""Tests that a device of your own must pass before anything can be tuned on it.

They are a class, from which a test derives its own; it says how to make the device, and the
target of the code that it runs::

    import pytest
    from tvm_eff import targets
    from tvm_eff.testing import DeviceConformance, MakeDevice

    class TestMyBoard(DeviceConformance):
        @pytest.fixture
        def make_device(self) -> MakeDevice:
            return lambda timeout: MyBoard("192.168.1.5", timeout=timeout)

        @pytest.fixture
        def target(self) -> targets.Target:
            return targets.load("my_board.toml")

This package needs pytest; nothing else of tvm_eff does.
"""

from tvm_eff.errors import SetupError

try:
    import pytest
except ImportError as error:
    raise SetupError(
        "tvm_eff.testing needs the package 'pytest', which is not installed; "
        "run: pip install pytest"
    ) from error

# pytest explains the assertions of modules that it knows before they are imported.
pytest.register_assert_rewrite("tvm_eff.testing.conformance")

from tvm_eff.testing.conformance import DeviceConformance, MakeDevice  # noqa: E402
from tvm_eff.testing.libraries import Libraries  # noqa: E402

__all__ = ["DeviceConformance", "Libraries", "MakeDevice"]
