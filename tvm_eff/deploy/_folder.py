"""Is a folder a bundle's, or may it become one's?"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from tvm_eff import paths
from tvm_eff.deploy import manifest
from tvm_eff.errors import BundleError


def require_bundle(folder: str | Path) -> Path:
    """Return the folder of a bundle as a path.

    Raises
    ------
    BundleError
        It is none.
    """
    if not isinstance(folder, str | os.PathLike):
        raise BundleError(f"the bundle is a {type(folder).__name__}; give the path of its folder")
    folder = Path(folder)
    if _is_there(folder) and not folder.is_dir():
        raise BundleError(f"{folder} is a file; give a bundle's folder{_unpack_hint(folder)}")
    if not _is_there(folder):
        raise BundleError(
            f"there is no bundle {paths.short(folder)}; check the path{_neighbours(folder)}"
        )
    if not (folder / manifest.NAME).exists():
        raise BundleError(
            f"{folder} is not a bundle: it has no {manifest.NAME}; give the folder that "
            f"a compilation wrote{_neighbours(folder / manifest.NAME)}"
        )
    return folder


def require_replaceable(folder: Path, parts: Collection[str]) -> None:
    """Refuse to replace what no bundle holds; nobody's files are deleted.

    Parameters
    ----------
    folder
        Where a bundle is to be.
    parts
        The names of a bundle's files.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise BundleError(f"{folder} is a file; write the bundle elsewhere, or move it away")
    foreign = sorted(path.name for path in folder.iterdir() if path.name not in parts)
    if foreign:
        raise BundleError(
            f"{folder} holds '{foreign[0]}', which is no part of a bundle and would be lost; "
            "move it away, or write the bundle elsewhere"
        )


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError) as error:  # a name too long, or that can be none
        reason = getattr(error, "strerror", None) or error
        raise BundleError(f"cannot read {paths.short(path)}: {reason}; check the path") from error


def _unpack_hint(path: Path) -> str:
    return f" (unpack it first: tar xf {path})" if path.name.endswith((".tar.gz", ".tgz")) else ""


def _neighbours(missing: Path) -> str:
    """Return a hint that names the bundles beside a path that is not one."""
    beside = missing.parent
    found = (
        sorted(p.parent.name for p in beside.glob(f"*/{manifest.NAME}")) if beside.is_dir() else []
    )
    return f"; bundles in {beside}: {', '.join(found[:8])}" if found else ""
