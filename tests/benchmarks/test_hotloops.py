"""The static check of hot loops: which are found, what is in them, what they take."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from kernels import tasks_of
from result_files import result_of
from torch import nn

import tvm_eff
from tvm_eff import schedules, targets
from tvm_eff.codegen import compile_kernel, toolchain
from tvm_eff.errors import BuildError, SetupError

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import hotloops  # noqa: E402
import results_file  # noqa: E402
from loops import mca  # noqa: E402
from loops.aarch64 import Loop, hot_loops  # noqa: E402
from loops.kernels import Kernel  # noqa: E402
from loops.layers import Layer  # noqa: E402
from loops.report import markdown, row_of  # noqa: E402

TRIPLE, CPU = "aarch64-linux-gnu", "cortex-a72"
SOURCE = Path(__file__).with_name("tile.c")


def test_a_target_with_other_loops_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert hotloops.main(["--target", "rasp3-armv7"]) == 2
    assert "only loops of 64-bit Arm" in capsys.readouterr().err


def test_a_model_without_records_is_told_how_to_get_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], analyzer: None
) -> None:
    output = tmp_path / "loops.json"
    options = ["--logs", str(tmp_path / "logs"), "--json", str(output)]
    assert hotloops.main(["--model", "flattened_cifar", *options]) == 2
    assert not output.exists()
    wanted = "scripts/tune.py --target rasp4 --model flattened_cifar --dtype float32"
    assert wanted in capsys.readouterr().err


def test_a_processor_without_arithmetic_in_float16_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert hotloops.main(["--target", "rasp4", "--dtype", "float16"]) == 2
    assert "without arithmetic in float16" in capsys.readouterr().err


def test_layers_of_a_target_with_other_loops_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert hotloops.main(["--layers", "rasp4", "rasp3-armv7"]) == 2
    assert "target rasp3-armv7" in capsys.readouterr().err


@pytest.fixture(scope="module")
def analyzer() -> None:
    """Fetch llvm-mca; skip where it cannot be had, but never in CI."""
    try:
        mca.version()
    except SetupError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


def compiled(folder: Path, rows: int, columns: int) -> str:
    """Return the assembly of a tile, as LLVM writes it."""
    output = folder / "tile.s"
    # Without directives for debuggers, and without instrumentation, as TVM's.
    flags = ["-O3", "-S", "-g0", "-fno-sanitize=all", f"-DROWS={rows}", f"-DCOLUMNS={columns}"]
    flags += ["-target", f"{TRIPLE}.2.31", "-mcpu=cortex_a72", "-fno-unroll-loops"]
    toolchain.run(["cc", *flags, SOURCE, "-o", output])
    return output.read_text()


def test_a_tile_that_fits_the_registers_has_no_spills(tmp_path: Path) -> None:
    loop = hot_loops(compiled(tmp_path, 5, 4))[0]
    assert loop.fmas == 20
    assert (loop.spills, loop.stores) == (0, 0)
    assert 1 < loop.instructions_per_fma < 2


def test_a_tile_that_does_not_fit_is_seen_to_spill(tmp_path: Path) -> None:
    loop = hot_loops(compiled(tmp_path, 8, 5))[0]
    assert loop.fmas == 40
    # 40 sums do not fit 32 registers: 8 and more are stored and loaded again.
    assert loop.spills >= 16
    assert loop.stores >= 8


ASSEMBLY = """
\t.type\tfirst,@function
first:
\tadd\tx1, sp, #16
.LBB0_1:
\tmov\tx5, x1
\tmov\tx6, x1
.LBB0_2:                                // an inner loop
\tldr\tq0, [x5, #16]
\tldr\tq0, [x6], #16
\tldr\tq0, [x1, x7]
\tadd\tx7, x7, #16
\tfmla\tv1.4s, v0.4s, v2.s[1]
\tstr\tq1, [sp, #32]                    // a spill
\tsubs\tx3, x3, #1
\tb.ne\t.LBB0_2
\tfmla\tv1.4s, v0.4s, v2.4s
\tcbnz\tx4, .LBB0_1
.LBB0_3:
\tfadd\tv1.4s, v0.4s, v2.4s
\ttbz\tw1, #0, .LBB0_3
\tret
\t.type\t.Lsecond,@function
.Lsecond:
.LBB1_1:
\tldp\tx9, x1, [x8]
\tldr\tq0, [x1]
\tcbz\tx9, .LBB1_2
\tfmls\tv1.4s, v0.4s, v2.4s
.LBB1_2:
\tfmla\tv1.4s, v0.4s, v2.4s
\tb\t.LBB1_1
"""


def test_loops_are_innermost_and_registers_are_those_of_their_function() -> None:
    first, second = hot_loops(ASSEMBLY)
    assert first == Loop(".LBB1_1", first.body, fmas=2, products=8, loads=2, stores=0, spills=0), (
        "x1 pointed to the stack in another function"
    )
    assert len(first.body) == 6
    assert (second.label, second.fmas, second.loads, second.stores) == (".LBB0_2", 1, 3, 1)
    assert second.spills == 2, "x5 is x1, which points to the stack; x6 moves along an array"
    assert second.instructions_per_fma == 8


def test_products_of_bytes_are_counted() -> None:
    lines = [".LBB0_1:", "sdot v0.4s, v1.16b, v2.4b[0]", "smull v3.8h, v4.8b, v5.8b"]
    lines += ["smlal2 v3.8h, v4.16b, v5.16b", "sadalp v6.4s, v3.8h", "b.ne .LBB0_1"]
    (loop,) = hot_loops("\n".join(lines))
    assert (loop.fmas, loop.products) == (4, 16 + 8 + 8)


def test_the_core_of_the_cortex_a76_is_known(analyzer: None) -> None:
    """The Cortex-A57's model, which stood for it, does half as much a cycle."""
    sums = [f"sdot v{i}.4s, v30.16b, v31.4b[0]" for i in range(16)]
    found = mca.analyze(sums, TRIPLE, "cortex-a76")
    assert found.iteration == pytest.approx(8, rel=0.05)
    assert found.bound == "vectors"


def test_what_is_no_assembly_is_an_error(analyzer: None) -> None:
    with pytest.raises(BuildError, match="llvm-mca cannot read"):
        mca.analyze(["frobnicate x1"], TRIPLE, CPU)


def test_a_core_does_one_multiply_add_and_one_load_a_cycle(analyzer: None) -> None:
    sums = [f"fmla v{i}.4s, v30.4s, v31.4s" for i in range(16)]
    found = mca.analyze(sums, TRIPLE, CPU)
    assert found.iteration == pytest.approx(16, rel=0.02)
    assert found.bound == "vectors"
    loads = [f"ldr q{i}, [x{i}]" for i in range(16)]
    found = mca.analyze(loads, TRIPLE, CPU)
    assert found.iteration == pytest.approx(16, rel=0.02)
    assert found.bound == "loads"


def test_a_chain_of_multiply_adds_is_bound_by_latency(analyzer: None) -> None:
    found = mca.analyze(["fmla v0.4s, v1.4s, v2.4s", "fadd v0.4s, v0.4s, v1.4s"], TRIPLE, CPU)
    assert found.bound == "latency"
    assert found.iteration > 10


def test_a_kernel_that_spills_is_named(tmp_path: Path, analyzer: None) -> None:
    kernels = [
        Kernel("good", 2, 1e6, compiled(tmp_path, 5, 4)),
        Kernel("bad", 1, 1e6, compiled(tmp_path, 8, 5)),
        Kernel("new", 1, None, None),
    ]
    rows = [row_of(kernel, TRIPLE, CPU) for kernel in kernels]
    assert "assembly" in rows[1]["loops"][0], "the evidence"
    result = result_of({"model": "m", "target": "t", "mca": "x", "cpu": CPU, "rows": rows})
    text = markdown(result)
    assert result.provenance in text
    assert "| good | 2 | 2.0 | 20 |" in text
    assert "With spills: bad." in text
    assert "No record, so not looked at: new." in text


@pytest.mark.parametrize("kernel", [1, 3])
def test_the_first_schedules_of_a_short_reduction_do_not_spill(kernel: int) -> None:
    target = targets.load("rasp4")
    model = nn.Conv2d(16, 64, kernel, padding=kernel // 2)
    task = next(t for t in tasks_of(model, (1, 16, 55, 55), target=target) if t.operations > 1e6)
    for candidate in schedules.candidates(task.func, target)[:2]:
        built = compile_kernel(schedules.apply(task.func, candidate, target), target)
        loops = hot_loops(str(built.inspect_source("asm")))
        products = [loop for loop in loops if loop.instructions_per_fma < 2]
        assert products
        assert [loop.spills for loop in products] == [0] * len(products), candidate


def test_figures_are_written_only_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hotloops, "version", lambda: "llvm-mca x")
    monkeypatch.setattr(hotloops, "kernels", lambda *_: [Kernel("new", 1, None, None)])
    assert hotloops.main([]) == 0
    assert list(tmp_path.iterdir()) == []
    assert hotloops.main(["--json", "loops.json"]) == 0
    found = results_file.read(tmp_path / "loops.json")
    assert found.data["rows"] == [
        {"kernel": "new", "calls": 1, "instructions": None, "failure": "no record", "loops": []}
    ]
    assert found.command == "python benchmarks/hotloops.py --json loops.json"
    assert "No record, so not looked at: new." in capsys.readouterr().out


def test_cycles_of_layers_are_less_the_fewer_bits_they_have(
    analyzer: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = Layer("1x1", nn.Conv2d(64, 64, 1), (1, 64, 14, 14))
    monkeypatch.setattr(hotloops, "layers", lambda: (layer,))
    assert hotloops.main(["--layers", "rasp3", "rasp5"]) == 0
    *_, head, _, line = capsys.readouterr().out.strip().splitlines()
    columns, cycles = (
        [each.strip() for each in text.strip("|").split("|")] for text in (head, line)
    )
    found = dict(zip(columns[1:], map(float, cycles[1:]), strict=True))
    assert found["cortex-a53, int8"] < 0.8 * found["cortex-a53, float32"]
    assert found["cortex-a76, float16"] < 0.6 * found["cortex-a76, float32"]
    assert found["cortex-a76, int8"] < 0.4 * found["cortex-a76, float32"]


def test_a_network_s_loops_are_read_in_bytes(
    emulator: None, analyzer: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target, model, logs = "rasp3", "flattened_cifar", tmp_path / "logs"
    tvm_eff.compile(
        model,
        target=target,
        dtype="int8",
        trials=1,
        proof=False,
        logs=logs,
        output=tmp_path / "dist",
    )
    written = tmp_path / "loops.json"
    words = ["--target", target, "--dtype", "int8", "--model", model, "--logs", str(logs)]
    assert hotloops.main([*words, "--json", str(written)]) == 0
    found = results_file.read(written).data
    assert (found["cpu"], found["dtype"]) == ("cortex-a53", "int8")
    loops = [row["loops"][0] for row in found["rows"] if row["loops"]]
    assert any(loop["products"] > 5 * loop["fmas"] for loop in loops), "pairs of bytes"
