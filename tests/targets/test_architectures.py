"""The table of architectures agrees with LLVM, with zig, and with the systems that are named."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tvm_eff import targets
from tvm_eff.codegen import toolchain
from tvm_eff.errors import TargetError
from tvm_eff.targets import architectures, detect
from tvm_eff.targets.architectures import ARCHITECTURES, PLATFORMS, Architecture, Platform

SETUP = Path(__file__).resolve().parents[2] / "scripts" / "setup_env.py"
AVX2 = {"sse2", "avx2", "fma", "bmi2", "f16c"}
AVX512 = AVX2 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}

every_architecture = pytest.mark.parametrize("each", ARCHITECTURES.values(), ids=ARCHITECTURES)
every_platform = pytest.mark.parametrize("each", PLATFORMS.values(), ids=PLATFORMS)


def pretend(monkeypatch: pytest.MonkeyPatch, system: str, machine: str, cpuinfo: str = "") -> None:
    """Let this machine be another one."""
    read = detect._read
    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(
        detect, "_read", lambda path: cpuinfo if path == Path("/proc/cpuinfo") else read(path)
    )


@pytest.mark.parametrize(
    ("system", "machine"),
    [
        ("Linux", "riscv64"),
        ("Linux", "armv7l"),
        ("Linux", "arm64"),
        ("Darwin", "x86_64"),
        ("Windows", "AMD64"),
    ],
)
def test_machine_that_tvm_has_no_packages_for(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str
) -> None:
    pretend(monkeypatch, system, machine)
    with pytest.raises(TargetError, match=f"cannot describe {system} on {machine}: .*Linux on x86"):
        detect.detect()


def test_x86_that_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "Linux", "x86_64")
    with pytest.raises(TargetError, match="shows no SSE2; mount /proc"):
        detect.detect()


@pytest.mark.parametrize(
    ("shown", "mcpu", "added"),
    [
        ({"sse2"}, "x86-64", ["+sse2"]),
        (AVX2, "x86-64-v3", ["+fma"]),
        (AVX512 - {"avx512vl"}, "x86-64-v3", ["+fma"]),
        (AVX512, "x86-64-v4", ["+avx512vl", "-prefer-256-bit"]),
        (AVX512 | {"avx512_vnni"}, "x86-64-v4", ["+avx512vnni"]),
        (AVX2 | {"avx_vnni"}, "x86-64-v3", ["+avxvnni"]),
    ],
)
def test_what_llvm_is_told_of_an_x86(
    monkeypatch: pytest.MonkeyPatch, shown: set[str], mcpu: str, added: list[str]
) -> None:
    pretend(monkeypatch, "Linux", "x86_64", f"processor : 0\nflags\t\t: {' '.join(shown)}\n")
    found = detect.detect()["tvm"]
    assert (found["mtriple"], found["mcpu"]) == ("x86_64-linux-gnu", mcpu)
    assert set(added) <= set(found["mattr"])
    for llvm, linux in (("+avx512vnni", "avx512_vnni"), ("+avxvnni", "avx_vnni")):
        assert (llvm in found["mattr"]) == (linux in shown)


@pytest.mark.parametrize("granted", [True, False])
def test_tiles_of_amx_are_used_where_the_system_grants_them(
    monkeypatch: pytest.MonkeyPatch, granted: bool
) -> None:
    shown = AVX512 | {"avx512_vnni", "amx_tile", "amx_int8"}
    pretend(monkeypatch, "Linux", "x86_64", f"flags\t\t: {' '.join(shown)}\n")
    monkeypatch.setattr(detect, "_grants_tiles", lambda: granted)
    found = detect.detect()["tvm"]["mattr"]
    assert ("+amx-int8" in found, "+amx-tile" in found) == (granted, granted)
    assert "+avx512vnni" in found
    assert ("amx_int8" in detect.processor_features()) == granted


@pytest.mark.parametrize(
    ("system", "machine", "part", "mcpu"),
    [
        ("Linux", "aarch64", "0xD08", "cortex-a72"),
        ("Linux", "aarch64", "0xfff", "generic"),
        ("Darwin", "arm64", "", "apple-a14"),
    ],
)
def test_what_llvm_is_told_of_an_arm(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str, part: str, mcpu: str
) -> None:
    pretend(monkeypatch, system, machine, f"CPU part\t: {part}" if part else "")
    found = detect.detect()
    assert (found["tvm"]["mcpu"], found["tvm"]["mattr"]) == (mcpu, ["+neon"])
    assert found["toolchain"]["triple"] == PLATFORMS[found["tvm"]["mtriple"]].zig


@pytest.mark.parametrize(
    ("machine", "name"),
    [
        ("AMD64", "x86_64"),
        ("arm64", "aarch64"),
        ("armv6l", "arm"),
        ("armv8l", "arm"),
        ("riscv64", "riscv64"),
    ],
)
def test_names_that_systems_give(monkeypatch: pytest.MonkeyPatch, machine: str, name: str) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert architectures.of_this_process() == name


def test_a_32_bit_process_on_a_64_bit_board(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    monkeypatch.setattr(sys, "maxsize", 2**31 - 1)
    assert architectures.of_this_process() == "arm"


@pytest.mark.parametrize(
    ("name", "vector_bytes", "unit"),
    [
        ("x86_64", 64, "avx512"),
        ("x86_64", 32, "avx2"),
        ("x86_64", 16, "sse"),
        ("x86_64", 8, "sse"),
        ("aarch64", 16, "neon"),
        ("aarch64", 32, "neon"),
    ],
)
def test_unit_that_names_the_records(name: str, vector_bytes: int, unit: str) -> None:
    assert ARCHITECTURES[name].vector_unit_of(vector_bytes).name == unit


def test_platform_of_a_triple_not_known() -> None:
    triple = "riscv64-linux-musl"
    assert (architectures.name_in(triple), architectures.system_in(triple)) == ("riscv64", "Linux")
    assert architectures.system_in("aarch64-macos") == "Darwin"


def test_the_setup_script_accepts_what_tvm_runs_on() -> None:
    """It cannot import the table: the package is not installed yet."""
    spec = importlib.util.spec_from_file_location("setup_env", SETUP)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    accepted = {(system, each) for system, machines in script.MACHINES.items() for each in machines}
    assert accepted == {(p.system, p.machine) for p in PLATFORMS.values() if p.runs_tvm}


@every_platform
def test_llvm_knows_the_processors(each: Platform) -> None:
    import tvm
    from tvm.target import codegen

    target = tvm.target.Target({"kind": "llvm", "mtriple": each.llvm})
    known = {str(name) for name in codegen.llvm_get_cpu_archlist(target)}
    architecture = each.architecture
    named = {unit.mcpu for unit in architecture.vector_units} | {*architecture.cpu_parts.values()}
    assert (named | ({each.mcpu} if each.mcpu else set())) - known == set()


@every_architecture
def test_llvm_knows_the_features(each: Architecture) -> None:
    import tvm
    from tvm.target import codegen

    units = (name for unit in each.vector_units for name in (*unit.features, *unit.extras))
    for feature in {*each.linux_features, *units}:
        config = {"kind": "llvm", "mtriple": each.linux.llvm, "mattr": [f"+{feature}"]}
        enabled = codegen.llvm_get_cpu_features(tvm.target.Target(config))
        assert feature in {str(name) for name in enabled}, feature


def test_zig_has_a_c_library_for_every_platform() -> None:
    listed = subprocess.run(
        [toolchain.zig(), "targets"], capture_output=True, text=True, check=True
    ).stdout
    for each in PLATFORMS.values():
        assert f'"{each.zig}"' in listed or f'"{each.zig}-none"' in listed, each.zig


@pytest.mark.parametrize("name", targets.names())
def test_every_target_is_of_a_known_platform(name: str) -> None:
    target = targets.load(name)
    platform = PLATFORMS[target.tvm["mtriple"]]
    assert (platform.zig, platform.architecture) == (target.toolchain.triple, target.architecture)
    assert target.private_caches == (target.architecture.name == "x86_64" and target.gpu is None)
