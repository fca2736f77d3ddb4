"""OpenCL drivers that are Python packages: devices in software, for machines without a GPU."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from tvm_eff.errors import SetupError, nearest

# A driver, the package that has it, and its library there.
_PACKAGES = {
    "pocl": ("pocl-binary-distribution", "libpocl-*.so"),
    "intel": ("intel-opencl-rt", "libintelocl.so"),
}


def software_drivers() -> dict[str, Path]:
    """Return the installed drivers by name: ``pocl``, and ``intel``, which has float16."""
    found = {}
    for name, (package, pattern) in _PACKAGES.items():
        library = _library(package, pattern)
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
    library = _library(*_PACKAGES[name])
    if library is None:
        package = _PACKAGES[name][0]
        raise SetupError(
            f"the OpenCL driver '{name}' is not installed; run: pip install {package} "
            "(its packages are for Linux on x86-64)"
        )
    return library


def _library(package: str, pattern: str) -> Path | None:
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
