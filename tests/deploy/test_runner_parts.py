"""The runner's C by itself: checksums, errors, and what a machine tells of itself."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from native_bundles import run

from tvm_eff import paths, targets
from tvm_eff.codegen import toolchain
from tvm_eff.tensors import relative_error

PROGRAMS = Path(__file__).parent / "native"
INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
DTYPES = ["float16", "float32", "float64", "bool", *INTEGERS]

Compile = Callable[..., Path]


@pytest.fixture
def compiled(tmp_path: Path) -> Compile:
    def compile_program(name: str, *parts: str, defined: str = "") -> Path:
        native = paths.data_folder("runtime") / "native"
        toolchain.run(
            [
                *("cc", "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-fsanitize=undefined"),
                *(f"-I{native}", f"-I{native / 'run'}", PROGRAMS / name),
                *(native / "run" / part for part in parts),
                *([defined] if defined else []),
                *("-lm", "-o", tmp_path / "program"),
            ]
        )
        return tmp_path / "program"

    return compile_program


@pytest.mark.parametrize("name", ["host", "rasp4", "rasp3-armv7"])
def test_no_compiler_warns(name: str, tmp_path: Path) -> None:
    native = paths.data_folder("runtime") / "native"
    for source in sorted((native / "run").glob("*.c")):
        toolchain.run(
            [
                *("cc", "-target", targets.load(name).toolchain.zig_triple, "-std=c11", "-O2"),
                *("-Wall", "-Wextra", "-Wshadow", "-Werror", "-DTVM_EFF_BUNDLE_FORMAT=1"),
                *(f"-I{native}", "-c", source, "-o", tmp_path / "part.o"),
            ]
        )


def test_sha256(compiled: Compile) -> None:
    program = compiled("sums.c", "sha256.c")
    rng = np.random.default_rng(0)
    # Around the lengths from which on the padding takes another block.
    for size in (0, 1, 3, 54, 55, 56, 57, 63, 64, 65, 119, 120, 128, 1000, 1_000_003):
        content = rng.bytes(size)
        for piece in ("1", "7", "64", "65536") if size < 2000 else ("65536",):
            done = subprocess.run(
                [program, piece], input=content, stdout=subprocess.PIPE, check=True
            )
            assert done.stdout.decode().strip() == hashlib.sha256(content).hexdigest()


def pairs(dtype: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return arrays to compare: near ones, far ones, and what is not finite."""
    rng = np.random.default_rng(0)
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return [(rng.random(20) > 0.5, rng.random(20) > 0.5), (np.ones(3, bool), np.ones(3, bool))]
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        wide = [rng.integers(limits.min, limits.max, 50, kind, endpoint=True) for _ in range(2)]
        ends = np.array([limits.min, limits.max, 0], kind)
        return [(wide[0], wide[1]), (ends, ends[::-1].copy()), (ends[:1], ends[1:2])]
    wanted = (rng.standard_normal(200) * 1e3 ** rng.integers(-1, 2, 200)).astype(kind)
    near = wanted + (wanted * 1e-3 * rng.standard_normal(200)).astype(kind)
    odd = np.array([np.nan, np.inf, -np.inf, 1, 2], kind)
    cases = [(near, wanted), (odd, odd), (odd, -odd), (odd[::-1].copy(), odd), (odd[3:], odd[:2])]
    constant = np.full(7, 3, kind)
    cases += [(near[:9] * kind.type(1e-3) + 20, wanted[:9] * kind.type(1e-3) + 20)]
    cases += [(constant + kind.type(0.5), constant), (odd[:3], odd[:3]), (odd[3:], odd[3:] * 0)]
    return [*cases, (wanted[:0], wanted[:0])]


def test_errors_are_those_of_python(compiled: Compile, tmp_path: Path) -> None:
    program = compiled("errors.c", "accuracy.c")
    all_pairs = [each for dtype in DTYPES for each in pairs(dtype)]
    for number, name in enumerate(("actual", "expected")):
        content = b"".join(np.ascontiguousarray(each[number]).tobytes() for each in all_pairs)
        (tmp_path / name).write_bytes(content)
    lines = [f"{actual.dtype} {actual.size} {actual.nbytes}\n" for actual, _ in all_pairs]
    done = run(program, tmp_path / "actual", tmp_path / "expected", input="".join(lines))
    assert done.returncode == 0, done.stderr
    expected = [relative_error(actual, wanted) for actual, wanted in all_pairs]
    np.testing.assert_allclose([*map(float, done.stdout.split())], expected, rtol=1e-15)
    assert {0.0, float("inf")} < set(expected) and len(set(expected)) > 15


def write(root: Path, path: str, content: str) -> None:
    (root / "sys" / path).parent.mkdir(parents=True, exist_ok=True)
    (root / "sys" / path).write_text(content)


def test_what_a_machine_tells(compiled: Compile, tmp_path: Path) -> None:
    program = compiled(
        "machine_state.c", "machine.c", "failure.c", defined=f'-DSYSTEM_ROOT="{tmp_path}"'
    )
    nothing = str(-(2**63))
    assert run(program).stdout.split() == [nothing, nothing, nothing, "times"]
    core = min(os.sched_getaffinity(0))
    folder = f"devices/system/cpu/cpu{core}"
    write(tmp_path, f"{folder}/cpufreq/scaling_cur_freq", "1500000\n")
    write(tmp_path, f"{folder}/thermal_throttle/core_throttle_count", "12\n")
    write(tmp_path, "class/thermal/thermal_zone0/temp", "-4000\n")
    write(tmp_path, "class/thermal/thermal_zone1/temp", "61200\n")
    write(tmp_path, "class/thermal/thermal_zone2/temp", "no number\n")
    assert run(program).stdout.split() == ["1500000", "61200", "12", "times"]
    # A Raspberry Pi's firmware: it is throttled, and its voltage was low.
    write(tmp_path, "devices/platform/soc/soc:firmware/get_throttled", "10004\n")
    assert run(program).stdout.split()[2:] == [str(0x10004), "flags"]
