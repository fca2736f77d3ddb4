"""Targets by name or by file, read strictly: unknown keys are errors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from tvm_eff import paths, strict
from tvm_eff.errors import TargetError, nearest
from tvm_eff.targets import reading
from tvm_eff.targets.architectures import PLATFORMS, Platform
from tvm_eff.targets.schema import Emulator, Target, Toolchain


def names() -> list[str]:
    """Return the names of the targets that ship with the package."""
    return sorted(path.stem for path in paths.data_folder("targets").glob("*.toml"))


def load(name_or_path: str | Path) -> Target:
    """Read a target.

    Parameters
    ----------
    name_or_path
        The name of a shipped target, or the path of a target file: it ends with
        ``.toml`` or contains a path separator.

    Raises
    ------
    TargetError
        No such target or file, or the file is not a valid target.
    """
    word = str(name_or_path)
    if isinstance(name_or_path, Path) or word.endswith(".toml") or "/" in word or "\\" in word:
        return _parse(Path(word))
    if word not in names():
        raise TargetError(
            f"unknown target '{word}'{nearest(word, names())} "
            "(a board of your own goes by the path of its .toml file)"
        )
    return _parse(paths.data_folder("targets") / f"{word}.toml")


def launched_from_here(target: Target) -> Target:
    """Return a target with this machine as the processor that launches its GPU's kernels.

    The kernels are the same; so are the records of what was tried.

    Raises
    ------
    TargetError
        This machine is not one that is supported.
    """
    here = load("host")
    return replace(target, tvm=here.tvm, hardware=here.hardware, toolchain=here.toolchain)


def _parse(path: Path) -> Target:
    file = reading.read(path)
    _require_one_of(path, "tvm.mtriple", file.tvm["mtriple"], tuple(PLATFORMS))
    platform = PLATFORMS[file.tvm["mtriple"]]
    _check_toolchain(path, file.toolchain, platform)
    if file.emulator is not None:
        _check_emulator(path, file.emulator, platform)
    return Target(
        name=file.name,
        description=file.description,
        path=path,
        tvm=MappingProxyType({**file.tvm, "num-cores": file.hardware.cores}),
        hardware=file.hardware,
        toolchain=file.toolchain,
        emulator=file.emulator,
        rpc=file.rpc,
        gpu=file.gpu,
        detected=file.detect,
    )


def _check_toolchain(path: Path, toolchain: Toolchain, platform: Platform) -> None:
    _require_one_of(path, "toolchain.triple", toolchain.triple, (platform.zig,))
    if platform.system == "Linux" and not toolchain.glibc:
        raise TargetError(
            f"{path}: 'toolchain.glibc' is empty; expected the oldest glibc that libraries must "
            'run on, such as "2.31"'
        )


def _check_emulator(path: Path, emulator: Emulator, platform: Platform) -> None:
    architecture = platform.architecture
    if platform.system != "Linux" or not architecture.emulated_cpus:
        raise TargetError(
            f"{path}: leave [emulator] out: only 64-bit and 32-bit Arm boards with Linux are "
            "emulated"
        )
    _require_one_of(path, "emulator.arch", emulator.arch, (architecture.name,))
    _require_one_of(path, "emulator.cpu", emulator.cpu, architecture.emulated_cpus)


def _require_one_of(path: Path, key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise TargetError(f"{path}: {strict.none_of(key, value, allowed)}")
