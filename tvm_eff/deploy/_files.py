"""Are a bundle's files those that its manifest describes?"""

from __future__ import annotations

import gzip
import hashlib
import os
import tarfile
from pathlib import Path
from typing import IO

from tvm_eff import paths
from tvm_eff.deploy import manifest
from tvm_eff.deploy.manifest import Manifest
from tvm_eff.errors import BundleError

SUMS = "SHA256SUMS"
PLAN = "plan.json"
HEADERS = ("tvm_eff.h", "tvm_eff_open.h")
RUNNER = "tvm_eff_run"
ARCHIVE = "libmodel.a"
EXECUTABLE = "model"
CMAKE = "tvm_eff_model-config.cmake"
NATIVE = (PLAN, *HEADERS, RUNNER, ARCHIVE, EXECUTABLE, CMAKE)
"""What a native library has beside it."""

_ADVICE = "build or copy the bundle again"


def check(path: Path, described: Manifest) -> None:
    """Refuse a file that is not the one that a bundle's manifest describes.

    Raises
    ------
    BundleError
        It is damaged, or cannot be read.
    """
    expected, size = described.files.get(path.name), described.sizes.get(path.name)
    if expected is None:
        raise BundleError(
            f"{path.parent / manifest.NAME} has no hash of {path.name}; build it again"
        )
    with paths.open_regular(path, BundleError, f"the bundle is incomplete: {_ADVICE}") as file:
        found = os.fstat(file.fileno()).st_size
        if size is not None and found != size:
            raise BundleError(
                f"{path} is damaged: it has {found} bytes, and the manifest says {size}; {_ADVICE}"
            )
        if _digest(file) != expected:
            raise BundleError(f"{path} is damaged: its SHA-256 is not the manifest's; {_ADVICE}")


def sha256(path: Path) -> str:
    """Return a file's SHA-256."""
    with path.open("rb") as file:
        return _digest(file)


def write_sums(folder: Path) -> None:
    """Write the SHA-256 of every file in a folder as ``sha256sum -c`` reads them."""
    files = sorted(each for each in folder.iterdir() if each.name != SUMS)
    lines = [f"{sha256(each)}  {each.name}\n" for each in files]
    (folder / SUMS).write_text("".join(lines), encoding="ascii")


def write_archive(folder: Path, archive: Path) -> None:
    """Pack a bundle's files: nothing of whose they are and when they were made, but as files."""
    with (
        paths.atomic_file(archive) as part,
        part.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w") as packed,
    ):
        for each in sorted(folder.iterdir()):
            packed.add(each, f"{folder.name}/{each.name}", filter=_anonymous)


def _anonymous(described: tarfile.TarInfo) -> tarfile.TarInfo:
    described.uid = described.gid = described.mtime = 0
    described.uname = described.gname = ""
    described.mode = 0o644
    return described


def _digest(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()
