"""Targets by name or by file, read strictly: unknown keys are errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tvm_eff import paths
from tvm_eff.errors import TargetError, nearest
from tvm_eff.targets import detect
from tvm_eff.targets.architectures import PLATFORMS, Platform
from tvm_eff.targets.reading import Table, read_toml
from tvm_eff.targets.schema import Emulator, Gpu, Hardware, Rpc, Target, Toolchain


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
    top = Table(read_toml(path), path)
    detected = top.flag("detect", default=False)
    if detected:
        top = top.filled_with(detect.detect())
    parts = {key: top.table(key) for key in ("tvm", "hardware", "toolchain", "rpc")}
    emulated, gpu = top.optional_table("emulator"), top.optional_table("gpu")
    name, description = top.name("name"), top.text("description")
    top.finish()

    hardware = _hardware(parts["hardware"])
    attributes = _tvm(parts["tvm"], hardware.cores)
    platform = PLATFORMS[attributes["mtriple"]]
    return Target(
        name=name,
        description=description,
        path=path,
        tvm=attributes,
        hardware=hardware,
        toolchain=_toolchain(parts["toolchain"], platform),
        emulator=None if emulated is None else _emulator(emulated, platform),
        rpc=_rpc(parts["rpc"]),
        gpu=None if gpu is None else _gpu(gpu),
        detected=detected,
    )


def _tvm(table: Table, cores: int) -> Mapping[str, Any]:
    attributes: dict[str, Any] = {
        "kind": table.choice("kind", ("llvm",)),
        "mtriple": table.choice("mtriple", tuple(PLATFORMS)),
        "mcpu": table.text("mcpu"),
    }
    if table.has("mattr"):
        attributes["mattr"] = table.features("mattr")
    if table.has("mfloat-abi"):
        attributes["mfloat-abi"] = table.choice("mfloat-abi", ("hard", "soft"))
    table.finish()
    return MappingProxyType({**attributes, "num-cores": cores})


def _hardware(table: Table) -> Hardware:
    hardware = Hardware(
        vector_bytes=table.power_of_two("vector_bytes", 8, 256),
        vector_registers=table.integer("vector_registers", 8, 256),
        fma_per_cycle=table.integer("fma_per_cycle", 1, 8),
        issue_width=table.integer("issue_width", 1, 16),
        clock_ghz=table.number("clock_ghz", 0.1, 10.0),
        cores=table.integer("cores", 1, 1024),
        l1d_kib=table.integer("l1d_kib", 1, 1 << 20),
        l2_kib=table.integer("l2_kib", 1, 1 << 20),
    )
    table.finish()
    return hardware


def _gpu(table: Table) -> Gpu:
    gpu = Gpu(
        device=table.choice("device", ("mali", "any")),
        opencl=table.version("opencl"),
        float16=table.flag("float16", default=False),
        vector_bytes=table.power_of_two("vector_bytes", 4, 64),
        registers=table.integer("registers", 16, 1024),
        work_group=table.integer("work_group", 16, 4096),
        local_memory_kib=table.integer("local_memory_kib", 1, 1 << 10),
        cores=table.integer("cores", 1, 1024),
        fma_per_cycle=table.integer("fma_per_cycle", 1, 4096),
        clock_ghz=table.number("clock_ghz", 0.1, 10.0),
        l2_kib=table.integer("l2_kib", 1, 1 << 20),
    )
    table.finish()
    return gpu


def _toolchain(table: Table, platform: Platform) -> Toolchain:
    triple = table.choice("triple", (platform.zig,))
    glibc = (
        table.version("glibc") if platform.system == "Linux" else table.text("glibc", empty=True)
    )
    table.finish()
    return Toolchain(triple, glibc)


def _emulator(table: Table, platform: Platform) -> Emulator:
    cpus = platform.architecture.emulated_cpus if platform.system == "Linux" else ()
    if not cpus:
        table.refuse_whole("only 64-bit and 32-bit Arm boards with Linux are emulated")
    arch = table.choice("arch", (platform.architecture.name,))
    cpu = table.choice("cpu", cpus)
    table.finish()
    return Emulator(arch, cpu)


def _rpc(table: Table) -> Rpc:
    rpc = Rpc(key=table.name("key"), port=table.integer("port", 1, 65535))
    table.finish()
    return rpc
