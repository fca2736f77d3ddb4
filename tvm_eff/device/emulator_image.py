"""The emulator and the emulated board's root folder, made once in the cache folder.

qemu's user-mode emulator runs with the libraries it was built with, through
their own loader, so it does not matter which distribution this machine has.
"""

from __future__ import annotations

import functools
import hashlib
import json
import platform
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tvm_eff import paths
from tvm_eff.device import debian
from tvm_eff.errors import SetupError
from tvm_eff.targets import architectures
from tvm_eff.targets.architectures import ARCHITECTURES, Architecture

_SUITE = "bookworm"  # qemu 7.2: the one Debian builds for users with plugins
_FORMAT = 1
# What no guest reads of what packages put into usr/share.
_SHARED = ("doc", "man", "info", "locale", "lintian", "zoneinfo")
GUESTS = tuple(each.name for each in ARCHITECTURES.values() if each.emulated_cpus)


@dataclass(frozen=True)
class Image:
    """A folder of unpacked packages.

    Attributes
    ----------
    path
        The folder.
    versions
        The packages in it, each with its version.
    """

    path: Path
    versions: dict[str, str]


def host() -> Architecture:
    """Return this machine's architecture.

    Raises
    ------
    SetupError
        The emulator does not run on it.
    """
    if sys.platform != "linux":
        raise SetupError(
            f"the emulated board needs Linux, and this is {platform.system()}: compiling works "
            "here, and a real board can be measured with --rpc HOST:PORT"
        )
    here = architectures.of_machine(platform.machine())
    if here is not None and here.linux.runs_tvm:
        return here
    hosts = " or ".join(each.name for each in ARCHITECTURES.values() if each.linux.runs_tvm)
    raise SetupError(
        f"the emulated board needs a machine of {hosts}, and this is {platform.machine()}: "
        "compiling works here, and a real board can be measured with --rpc HOST:PORT"
    )


@functools.cache
def qemu() -> Image:
    """Return the emulator for this machine, made if need be.

    Raises
    ------
    SetupError
        It cannot be made; the message says why.
    """
    here = host()
    binaries = [f"usr/bin/{ARCHITECTURES[guest].qemu}" for guest in GUESTS]
    return _image(
        f"qemu-{here.debian}",
        ["qemu-user"],
        here,
        [*binaries, f"lib/{here.gnu}/{here.loader}", f"lib/{here.gnu}/libc.so.6"],
        lambda folder: _drop_other_emulators(folder, binaries),
    )


@functools.cache
def guest_root(arch: str) -> Image:
    """Return the root folder of a guest, made if need be.

    Raises
    ------
    SetupError
        It cannot be made; the message says why.
    """
    host()
    guest = ARCHITECTURES[arch]
    return _image(
        f"root-{guest.debian}",
        ["libc6"],
        guest,
        [f"lib/{guest.gnu}/{guest.loader}", f"lib/{guest.gnu}/libc.so.6"],
        _hide_host_libraries,
    )


def guest_image(
    name: str,
    packages: Sequence[str],
    arch: str,
    main_files: Sequence[str],
    finish: Callable[[Path], None],
) -> Image:
    """Return a guest's root folder with more in it than the C library, made if need be.

    Parameters
    ----------
    name
        Its name in the cache folder; another content needs another name.
    packages
        Debian's packages; those they depend on come with them.
    arch
        The guest's architecture.
    main_files
        Files of it that must be whole when it is used again.
    finish
        Changes the folder when all packages are unpacked.

    Raises
    ------
    SetupError
        It cannot be made; the message says why.
    """
    host()

    def all_of_it(folder: Path) -> None:
        _hide_host_libraries(folder)
        finish(folder)

    return _image(name, packages, ARCHITECTURES[arch], main_files, all_of_it)


def emulator_command(arch: str, root: Path | None = None) -> list[str | Path]:
    """Return the start of a command line that runs a guest's program.

    The guest sees the files of `root` before this machine's; it is the smallest
    root folder unless another is named.
    """
    here, folder = host(), qemu().path
    libraries = [folder / part / here.gnu for part in ("lib", "usr/lib")]
    return [
        folder / "lib" / here.gnu / here.loader,
        "--inhibit-cache",
        "--library-path",
        ":".join(map(str, libraries)),
        folder / "usr/bin" / ARCHITECTURES[arch].qemu,
        "-L",
        root or guest_root(arch).path,
    ]


def _image(
    name: str,
    packages: Sequence[str],
    architecture: Architecture,
    main_files: Sequence[str],
    finish: Callable[[Path], None],
) -> Image:
    with paths.locked_cache_entry(f"emulator/{name}") as path:
        image = _load(path)
        if image is not None:
            return image
        unfinished = path.with_name(path.name + ".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            folder = unfinished / "root"
            unpacked = debian.unpack(
                packages, architecture.debian, _SUITE, folder, unfinished / "work"
            )
            finish(folder)
            _write_manifest(folder, unpacked, main_files)
            shutil.rmtree(path, ignore_errors=True)
            folder.rename(path)
        except OSError as error:
            raise SetupError(
                f"cannot make the emulator in {path.parent}: {error}; "
                "make room there, or set TVM_EFF_CACHE to another folder"
            ) from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        return Image(path, {package.name: package.version for package in unpacked})


def _write_manifest(
    folder: Path, packages: Sequence[debian.Package], main_files: Sequence[str]
) -> None:
    manifest = {
        "format": _FORMAT,
        "suite": _SUITE,
        "packages": [asdict(package) for package in packages],
        "files": {name: _digest(folder / name) for name in main_files},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


def _load(path: Path) -> Image | None:
    """Return what is in the cache if it is whole: what is damaged is made again."""
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        whole = manifest["format"] == _FORMAT and all(
            _digest(path / name) == digest for name, digest in manifest["files"].items()
        )
        versions = {package["name"]: package["version"] for package in manifest["packages"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return Image(path, versions) if whole else None


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _drop_other_emulators(folder: Path, keep: Sequence[str]) -> None:
    for binary in (folder / "usr/bin").iterdir():
        if f"usr/bin/{binary.name}" not in keep:
            binary.unlink()
    shutil.rmtree(folder / "usr/share", ignore_errors=True)


def _hide_host_libraries(folder: Path) -> None:
    # The guest's loader would otherwise read the list of this machine's libraries.
    (folder / "etc").mkdir(exist_ok=True)
    (folder / "etc/ld.so.cache").write_bytes(b"")
    for texts in _SHARED:
        shutil.rmtree(folder / "usr/share" / texts, ignore_errors=True)
    for conversions in (folder / "usr/lib").glob("*/gconv"):
        shutil.rmtree(conversions, ignore_errors=True)
