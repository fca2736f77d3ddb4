"""The plug-in in processes: what is missing is said, and nothing is left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tvm
import tvm_ffi
from compiled import operands, product
from made_modules import on_device

from tvm_eff.device import opencl
from tvm_eff.device.opencl import plugin
from tvm_eff.device.opencl.drivers import driver
from tvm_eff.errors import SetupError, UsageError

Run = Callable[..., Any]


def _python(code: str, **variables: str) -> str:
    """Run code in a new process, which must end well, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_missing_driver(drivers: tuple[str, ...], tmp_path: Path) -> None:
    told = _python(
        """
        import tvm
        from tvm_eff import errors
        from tvm_eff.device import opencl

        opencl.load()
        print(tvm.device("opencl").exist)
        for _ in range(2):
            try:
                tvm.runtime.empty((1,), "float32", tvm.device("opencl"))
            except RuntimeError as error:
                print(error)
        try:
            opencl.devices()
        except errors.DeviceError as error:
            print("DeviceError")
        """,
        TVM_EFF_OPENCL_LIBRARY=f"{tmp_path}/libnone.so:libc.so.6",
    )
    assert told.startswith("False\n")
    assert told.count("no OpenCL driver was found") == 2
    assert "libnone.so: cannot open shared object file" in told
    assert "libc.so.6: it is no OpenCL library" in told
    assert told.endswith("DeviceError\n")


def test_platform_that_is_not_there(drivers: tuple[str, ...]) -> None:
    told = _python(
        """
        from tvm_eff.device import opencl

        opencl.load("pocl")
        try:
            opencl.devices()
        except Exception as error:
            print(error)
        """,
        TVM_EFF_OPENCL_PLATFORM="Mali",
    )
    assert "no device on a platform named 'Mali'" in told
    assert "Portable Computing Language" in told


def test_other_version_of_tvm(drivers: tuple[str, ...], tmp_path: Path) -> None:
    library = Path(tvm.__file__).parent / "lib" / "libtvm_runtime.so"
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / library.name).symlink_to(library)
    (tmp_path / "_version.py").write_text("__version__ = version = '0.26.1'\n")
    told = _python(
        f"""
        import ctypes
        import tvm_ffi
        ctypes.CDLL("{tmp_path}/lib/{library.name}", ctypes.RTLD_GLOBAL)
        import tvm
        from tvm_eff.device import opencl
        opencl.load("pocl")
        for use in (
            lambda: tvm.runtime.empty((1,), "float32", tvm.device("opencl")),
            lambda: tvm.get_global_func("ffi.Module.load_from_bytes.opencl")(b""),
        ):
            try:
                use()
            except RuntimeError as error:
                print(error)
        """
    )
    refusal = f"was built for TVM {tvm.__version__}, and this is TVM 0.26.1; build it again with"
    assert told.count(refusal) == 2


def test_loaded_before(drivers: tuple[str, ...]) -> None:
    told = _python(
        """
        import ctypes
        from pathlib import Path
        from tvm_eff.device import opencl
        from tvm_eff.device.opencl import loading
        library = opencl.load("pocl", "pocl")
        assert opencl.load() == library
        # Another copy of the file: TVM's server may name one and the package bring another.
        copy = Path("copy.so").absolute()
        copy.write_bytes(library.read_bytes())
        ctypes.CDLL(str(copy))
        copy.unlink()
        loading.autoload()
        print([device.platform for device in opencl.devices()])
        """
    )
    assert told == "['Portable Computing Language', 'Portable Computing Language']\n"


def test_loaded_by_tvm_itself(drivers: tuple[str, ...], tmp_path: Path) -> None:
    # As an installed package has it, which a checkout on the path alone has not.
    (tmp_path / "named-1.dist-info").mkdir()
    (tmp_path / "named-1.dist-info" / "entry_points.txt").write_text(
        "[tvm.backends]\nopencl = tvm_eff.device.opencl.loading:autoload\n"
    )
    told = _python(
        f"""
        import sys
        sys.path.append("{tmp_path}")
        import tvm
        print(tvm.device("opencl").device_name)
        """,
        TVM_EFF_OPENCL_LIBRARY=str(driver("pocl")),
        TVM_USE_RUNTIME_LIB="1",
    )
    assert told.startswith("pthread")


def test_nothing_is_built_by_an_import(tmp_path: Path) -> None:
    told = _python(
        """
        import tvm
        from tvm_eff.device.opencl import loading
        loading.autoload()
        print(loading._loaded)
        """,
        TVM_EFF_CACHE=str(tmp_path),
        TVM_DEVICE_BACKEND_AUTOLOAD="0",
    )
    assert told == "[]\n"


def test_devices_before_load() -> None:
    told = _python(
        """
        import os
        os.environ["TVM_DEVICE_BACKEND_AUTOLOAD"] = "0"
        from tvm_eff import errors
        from tvm_eff.device import opencl
        try:
            opencl.devices()
        except errors.DeviceError as error:
            print(error)
        """
    )
    assert "call tvm_eff.device.opencl.load() first" in told


def test_no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TVM_EFF_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match=r"apt-get install g\+\+"):
        opencl.build()
    other = "aarch64" if os.uname().machine != "aarch64" else "armv7l"
    with pytest.raises(SetupError, match="build it on the board"):
        opencl.build(other)
    assert plugin.built() is None


def test_unknown_names() -> None:
    with pytest.raises(UsageError, match="unknown architecture 'aarch46'; did you mean 'aarch64'"):
        opencl.build("aarch46")
    with pytest.raises(SetupError, match="no OpenCL driver 'pocle'; did you mean 'pocl'"):
        driver("pocle")


def _cycles(count: int, number: int, library: Path) -> int:
    """Return how many bytes `count` times loading, running and unloading leave behind."""
    process = psutil.Process()
    first, second = operands()
    expected = 2 * (first @ second)

    def cycle(index: int) -> None:
        # A library is known by its path.
        copy = library.with_name(f"copy_{index}.so")
        shutil.copyfile(library, copy)
        module = tvm_ffi.load_module(copy, keep_module_alive=False)
        copy.unlink()
        tensors = [on_device(each, number) for each in (first, second, np.zeros_like(first))]
        module["main"](*tensors)
        assert (tensors[2].numpy() == expected).all()

    for index in range(count // 2):
        cycle(index)
    before = process.memory_info().rss
    for index in range(count):
        cycle(index)
    return process.memory_info().rss - before


def test_cycles_leave_no_memory(run: Run, number: int, tmp_path: Path) -> None:
    # Where libraries stay loaded, this is 27 MB on PoCL and 95 MB with Intel's driver.
    assert run(_cycles, 100, number, product(tmp_path / "product.so")) < 2 << 20
