"""Targets are strict: each kind of mistake is one clear message; every shipped one compiles."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tvm_eff import paths, targets
from tvm_eff.errors import TargetError

GPUS = [name for name in targets.names() if targets.load(name).gpu is not None]
PROCESSORS = [name for name in targets.names() if name not in GPUS]
MARKS = {16: r"\bq\d+\b|\bv\d+\.4s\b|\bxmm\d+\b", 32: r"\bymm\d+\b", 64: r"\bzmm\d+\b"}


def board_file(tmp_path: Path, *edits: tuple[str, str], name: str = "rasp4") -> Path:
    """Write a shipped target's file with some of its text replaced."""
    text = (paths.data_folder("targets") / f"{name}.toml").read_text(encoding="utf-8")
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "board.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("vector_registers = 32", "vector_register = 32", "misspelling"),
        ("vector_registers = 32", "", "'hardware.vector_registers' is missing"),
        ("[rpc]", "[rcp]", "misspelling"),
        ("issue_width = 3", "issue_width = 3\nissue_widht = 3", "did you mean 'issue_width'"),
        ('name = "rasp4"', 'name = "rasp4"\ncolour = 1', "unknown key 'colour'"),
        ('mcpu = "cortex-a72"', 'mcpu = "cortex-a72"\nnum-cores = 4', "'tvm.num-cores'"),
        ("vector_bytes = 16", "vector_bytes = 24", "a power of two"),
        ("vector_bytes = 16", "vector_bytes = -16", "a power of two"),
        ("vector_bytes = 16", "vector_bytes = 16.0", "a power of two"),
        ("cores = 4", "cores = 0", "an integer from 1"),
        ("cores = 4", "cores = true", "an integer from 1"),
        ("cores = 4", 'cores = "4"', "an integer from 1"),
        ("clock_ghz = 1.5", "clock_ghz = -1.5", "a number from"),
        ("clock_ghz = 1.5", "clock_ghz = nan", "a number from"),
        ("clock_ghz = 1.5", "clock_ghz = 1500", "a number from"),
        ("port = 9090", "port = 70000", "an integer from 1 to 65535"),
        ('key = "rasp4"', 'key = ""', "a name of letters"),
        ('name = "rasp4"', 'name = "../rasp4"', "a name of letters"),
        ('description = "', 'description = 1 # "', "a string"),
        ('kind = "llvm"', 'kind = "lvm"', "did you mean 'llvm'"),
        ('mattr = ["+neon"]', 'mattr = ["neon"]', "'tvm.mattr[0]' is 'neon'"),
        ('mattr = ["+neon"]', 'mattr = "+neon"', "with their sign"),
        ('mtriple = "aarch64-linux-gnu"', 'mtriple = "arch64-linux"', "did you mean 'aarch64-"),
        ('\ntriple = "aarch64-linux-gnu"', '\ntriple = "x86_64-linux-gnu"', "'toolchain.triple'"),
        ('glibc = "2.31"', "glibc = 2.31", "a version in quotes"),
        ('glibc = "2.31"', 'glibc = ""', "'toolchain.glibc' is empty"),
        ('glibc = "2.31"', 'glibc = """2.31\n"""', "a version in quotes"),
        ('description = "', 'description = 2026-11-22 # "', "expected a string"),
        ('description = "', 'detect = "yes"\ndescription = "', "expected true or false"),
        (
            "cores = 4",
            f"cores = 0x{'f' * 9999}",
            "is an integer of 39996 bits; expected an integer",
        ),
        ('arch = "aarch64"', 'arch = "arm"', "'emulator.arch'"),
        ('cpu = "cortex-a72"\n\n[rpc]', 'cpu = "cortex-a27"\n\n[rpc]', "did you mean 'cortex-a7"),
        ("[emulator]", "[emulator", "not valid TOML"),
    ],
)
def test_mistake_in_a_file(tmp_path: Path, old: str, new: str, expected: str) -> None:
    path = board_file(tmp_path, (old, new))
    with pytest.raises(TargetError) as caught:
        targets.load(path)
    assert str(path) in str(caught.value)
    assert expected in str(caught.value)


def test_table_that_is_no_table(tmp_path: Path) -> None:
    path = tmp_path / "board.toml"
    path.write_text('name = "x"\ndescription = "x"\ntvm = 3\n', encoding="utf-8")
    with pytest.raises(TargetError, match=r"'tvm' is 3; expected a table, written \[tvm\]"):
        targets.load(path)


def test_file_nested_too_deeply(tmp_path: Path) -> None:
    path = tmp_path / "board.toml"
    path.write_text(f"name = {'[' * 50_000}", encoding="utf-8")
    with pytest.raises(TargetError, match=r"board\.toml is not valid TOML: .*(recursion|nested)"):
        targets.load(path)


def test_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "board.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TargetError, match="not UTF-8"):
        targets.load(path)
    with pytest.raises(TargetError, match="cannot read"):
        targets.load(tmp_path)


def test_emulator_for_a_host_processor(tmp_path: Path) -> None:
    path = board_file(
        tmp_path,
        ('mtriple = "aarch64-linux-gnu"', 'mtriple = "x86_64-linux-gnu"'),
        ('\ntriple = "aarch64-linux-gnu"', '\ntriple = "x86_64-linux-gnu"'),
    )
    with pytest.raises(TargetError, match=r"leave \[emulator\] out"):
        targets.load(path)


@pytest.mark.parametrize(
    ("word", "hint"),
    [("rasp44", "'rasp4'"), ("rk3389", "'rk3399'"), ("zzz", "known: host, opencl-host, ras")],
)
def test_unknown_name_offers_the_nearest(word: str, hint: str) -> None:
    with pytest.raises(TargetError, match=f"unknown target '{word}'.*{hint}"):
        targets.load(word)


def test_missing_file() -> None:
    with pytest.raises(TargetError, match=r"cannot read nowhere/board\.toml: No such file"):
        targets.load("nowhere/board.toml")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('mcpu = "cortex-a72"', 'mcpu = "cortex-a79"', "cortex-a7"),
        ('mattr = ["+neon"]', 'mattr = ["+neoon"]', "'neoon'"),
    ],
)
def test_what_llvm_does_not_know(tmp_path: Path, old: str, new: str, expected: str) -> None:
    target = targets.load(board_file(tmp_path, (old, new)))
    with pytest.raises(TargetError, match=expected) as caught:
        target.tvm_target()
    assert "board.toml" in str(caught.value)


def test_new_board_is_one_file(tmp_path: Path) -> None:
    path = tmp_path / "fridge.toml"
    path.write_text(
        """
        name = "fridge"
        description = "a fridge"
        [tvm]
        kind = "llvm"
        mtriple = "aarch64-linux-gnu"
        mcpu = "cortex-a55"
        [hardware]
        vector_bytes = 16
        vector_registers = 32
        fma_per_cycle = 1
        issue_width = 2
        clock_ghz = 2
        cores = 3
        l1d_kib = 32
        l2_kib = 128
        [toolchain]
        triple = "aarch64-linux-gnu"
        glibc = "2.28"
        [rpc]
        key = "fridge"
        port = 9091
        """,
        encoding="utf-8",
    )
    target = targets.load(str(path))
    assert (target.name, target.log_name, target.is_host) == ("fridge", "fridge", False)
    assert target.hardware.lanes == 4
    assert target.hardware.clock_ghz == 2.0
    assert target.toolchain.zig_triple == "aarch64-linux-gnu.2.28"
    assert target.emulator is None
    assert int(target.tvm_target().attrs["num-cores"]) == 3


def test_shipped_names() -> None:
    assert targets.names() == [
        "host",
        "opencl-host",
        "rasp3",
        "rasp3-armv7",
        "rasp4",
        "rasp5",
        "rk3399",
        "rk3399-mali",
        "rk3588",
        "rk3588-mali",
        "vim3-mali",
    ]
    assert [targets.load(name).name for name in targets.names()] == targets.names()


@pytest.mark.parametrize("name", targets.names())
def test_target_travels_and_is_frozen(name: str) -> None:
    target = targets.load(name)
    copy = pickle.loads(pickle.dumps(target))
    assert copy == target
    assert hash(copy) == hash(target)
    assert isinstance(copy.tvm, Mapping)
    with pytest.raises(TypeError):
        copy.tvm["mcpu"] = "generic"  # type: ignore[index]
    with pytest.raises(AttributeError):
        copy.hardware.cores = 7


@pytest.mark.parametrize("name", PROCESSORS)
def test_target_compiles_full_vectors(name: str) -> None:
    """A multiply-add over one register's lanes is not split into narrower ones."""
    import tvm
    from tvm import te

    target = targets.load(name)
    lanes = target.hardware.lanes
    a = te.placeholder((64, 4), name="a")
    b = te.placeholder((64, lanes), name="b")
    k = te.reduce_axis((0, 64), name="k")
    c = te.compute((4, lanes), lambda i, j: te.sum(a[k, i] * b[k, j], axis=k), name="c")
    schedule = tvm.s_tir.Schedule(te.create_prim_func([a, b, c]))
    i, j, kk = schedule.get_loops(schedule.get_sblock("c"))
    schedule.reorder(kk, i, j)
    schedule.unroll(i)
    schedule.vectorize(j)
    assembly = tvm.compile(schedule.mod, target=target.tvm_target()).mod.inspect_source("asm")
    multiply_adds = re.findall(r"^\s*(?:v?fml?a|vfmadd\w*|vmla)\S*\s.*$", assembly, re.MULTILINE)
    assert multiply_adds
    full = MARKS[target.hardware.vector_bytes]
    assert all(re.search(full, line) for line in multiply_adds), multiply_adds


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('device = "mali"', 'device = "mail"', "did you mean 'mali'"),
        ("work_group = 256", "work_groups = 256", "'gpu.work_group' is missing.*misspelling"),
        ("float16 = true", 'float16 = "yes"', "'gpu.float16'.*true or false"),
        ("registers = 64", "registers = 8", "an integer from 16"),
        ('opencl = "1.2"', "opencl = 1.2", "a version in quotes"),
    ],
)
def test_mistake_in_a_gpu(tmp_path: Path, old: str, new: str, expected: str) -> None:
    with pytest.raises(TargetError, match=expected):
        targets.load(board_file(tmp_path, (old, new), name="rk3399-mali"))


@pytest.mark.parametrize("name", GPUS)
def test_gpu_compiles_within_its_limits(name: str) -> None:
    import tvm

    target = targets.load(name)
    assert target.gpu is not None
    made = target.tvm_target()
    assert made.kind.name == "opencl"
    assert int(made.attrs["max_num_threads"]) == target.gpu.work_group
    assert made.host.kind.name == "llvm"
    assert target.log_name == name
    assert target.lanes == 4

    n = tvm.te.placeholder((1024,), name="a")
    doubled = tvm.te.compute((1024,), lambda i: n[i] * 2.0, name="b")
    schedule = tvm.s_tir.Schedule(tvm.te.create_prim_func([n, doubled]))
    block, thread = schedule.split(schedule.get_loops(schedule.get_sblock("b"))[0], [None, 64])
    schedule.bind(block, "blockIdx.x")
    schedule.bind(thread, "threadIdx.x")
    built = tvm.compile(schedule.mod, target=made).mod
    (kernels,) = [each for each in built.imports if each.kind == "opencl"]
    assert "__kernel void" in kernels.inspect_source()


def test_launched_from_here_has_the_same_gpu() -> None:
    board, host = targets.load("rk3399-mali"), targets.load("host")
    here = targets.launched_from_here(board)
    assert (here.gpu, here.name, here.log_name) == (board.gpu, board.name, board.log_name)
    assert (here.tvm, here.toolchain) == (host.tvm, host.toolchain)
    assert here.tvm_target().host.attrs["mtriple"] == host.tvm["mtriple"]


def test_host_is_detected_the_same_each_time() -> None:
    target = targets.load("host")
    code = (
        "from tvm_eff import targets; t = targets.load('host'); "
        "print(dict(t.tvm), t.hardware, t.toolchain, t.log_name)"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        for _ in range(2)
    }
    assert seen == {f"{dict(target.tvm)} {target.hardware} {target.toolchain} {target.log_name}"}
    assert target.is_host
    assert target.log_name in ("host-avx512", "host-avx2", "host-sse", "host-neon")


def test_host_runs_what_it_compiles() -> None:
    import numpy as np
    import tvm
    from tvm import te

    n = targets.load("host").hardware.lanes * 4
    a = te.placeholder((n,), name="a")
    b = te.compute((n,), lambda i: a[i] * 2.0 + 1.0, name="b")
    schedule = tvm.s_tir.Schedule(te.create_prim_func([a, b]))
    schedule.vectorize(schedule.get_loops(schedule.get_sblock("b"))[0])
    library = tvm.compile(schedule.mod, target=targets.load("host").tvm_target())
    x = np.arange(n, dtype="float32")
    given, taken = tvm.runtime.tensor(x), tvm.runtime.tensor(np.zeros_like(x))
    library(given, taken)
    np.testing.assert_array_equal(taken.numpy(), x * 2 + 1)


def test_own_host_file_wins_over_detection(tmp_path: Path) -> None:
    path = board_file(tmp_path, ("fma_per_cycle = 2", "fma_per_cycle = 1\ncores = 1"), name="host")
    target = targets.load(path)
    assert (target.hardware.fma_per_cycle, target.hardware.cores) == (1, 1)
    assert target.tvm["num-cores"] == 1
    assert target.hardware.vector_bytes == targets.load("host").hardware.vector_bytes


def test_importing_the_package_imports_neither_torch_nor_tvm() -> None:
    code = (
        "import sys, tvm_eff, tvm_eff.targets; tvm_eff.targets.load('rasp4'); "
        "sys.exit(bool({'torch', 'tvm'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
