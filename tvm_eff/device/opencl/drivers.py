"""OpenCL drivers that are devices in software, for machines without a GPU.

They are Python packages. PoCL's cannot compile for a processor that is newer than the LLVM
in it (pocl/pocl#1049); that of a Linux distribution can, and is preferred if it is installed.
"""

from __future__ import annotations

import ctypes.util
from importlib import metadata
from pathlib import Path

from tvm_eff.errors import SetupError, nearest

# By the name of the driver, its library among the system's.
_SYSTEM = {"pocl": "libpocl.so.2"}
# A driver, the package that has it, and its library there.
_PACKAGES = {
    "pocl": ("pocl-binary-distribution", "libpocl-*.so"),
    "intel": ("intel-opencl-rt", "libintelocl.so"),
}


def software_drivers() -> dict[str, Path]:
    """Return the installed drivers by name: ``pocl``, and ``intel``, which has float16."""
    found = {}
    for name in _PACKAGES:
        library = _library(name)
        if library is not None:
            found[name] = library
    return found


def driver(name: str) -> Path:
    """Return the library of a driver.

    Parameters
    ----------
    name
        ``pocl`` or ``intel``.

    Raises
    ------
    SetupError
        There is no such driver, or it is not installed.
    """
    if name not in _PACKAGES:
        raise SetupError(f"there is no OpenCL driver '{name}'{nearest(name, _PACKAGES)}")
    library = _library(name)
    if library is None:
        package = _PACKAGES[name][0]
        raise SetupError(
            f"the OpenCL driver '{name}' is not installed; run: pip install {package} "
            "(its packages are for Linux on x86-64)"
        )
    return library


def _library(name: str) -> Path | None:
    if name in _SYSTEM and _is_installed(_SYSTEM[name]):
        # The system's loader finds it.
        return Path(_SYSTEM[name])
    package, pattern = _PACKAGES[name]
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        return None
    for file in files:
        if file.match(pattern):
            path = Path(str(file.locate())).resolve()
            if path.is_file():
                return path
    return None


def _is_installed(library: str) -> bool:
    """Whether the system's loader finds a library, without loading it."""
    return ctypes.util.find_library(library.removeprefix("lib").partition(".")[0]) == library
