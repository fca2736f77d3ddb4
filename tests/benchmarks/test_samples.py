"""Samples of the processor: on which loops they are laid, and what kind of code that is."""

from __future__ import annotations

import platform
import sys
from collections import Counter
from pathlib import Path

import pytest
from result_files import result_of

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import results_file  # noqa: E402
import samples  # noqa: E402
from sampling import perf, report, x86  # noqa: E402
from sampling.perf import Samples  # noqa: E402

from tvm_eff.errors import SetupError  # noqa: E402

# A tile: its beginning and end around the loop that multiplies; a copy; what is in no loop.
DISASSEMBLY = """
model.so:     file format elf64-x86-64

Disassembly of section .text:

0000000000001000 <__tvm_ffi_main>:
    1000:\tvxorps %xmm1,%xmm1,%xmm1
    1004:\tvbroadcastss (%rdx,%r10,1),%zmm2
    100b:\tvfmadd231ps %zmm2,%zmm3,%zmm1
    1011:\tvfnmadd231ps 0x40(%rcx),%zmm3,%zmm1
    1018:\tjne    1004 <__tvm_ffi_main+0x4>
    101a:\tvmovups %zmm1,(%r8)
    1020:\tjne    1000 <__tvm_ffi_main>
    1022:\tvmovups (%rsi),%zmm4
    1028:\tvmovups %zmm4,(%rdi)
    102e:\tjmp    1022 <__tvm_ffi_main+0x22>
    1030:\tret
"""


def test_a_model_that_is_unknown_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert samples.main(["--model", "squeezenet9"]) == 2
    assert "squeezenet9" in capsys.readouterr().err


def test_where_perf_is_not_installed_it_is_said_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match="apt install linux-perf"):
        perf.sample(tmp_path / "model.so", tmp_path / "inputs.npz", [0], 1, tmp_path)


def test_samples_are_laid_on_the_nearest_loop_around_them() -> None:
    code = x86.instructions(DISASSEMBLY)
    assert len(code) == 11
    found = x86.lay(code, {0x100B: 40, 0x1018: 2, 0x1000: 5, 0x101A: 6, 0x1028: 30, 0x1030: 1})
    assert [loop.samples for loop in found] == [42, 30, 11, 1]
    multiplying, copying, around, outside = found
    assert (len(multiplying.body), multiplying.fmas, multiplying.loads) == (4, 2, 2)
    assert (len(copying.body), copying.fmas, copying.loads) == (3, 0, 1)
    assert around.body == (code[0x1000], code[0x101A], code[0x1020])
    assert around.within == (multiplying.body,)
    assert outside.body == ()


def test_time_is_divided_as_samples_are() -> None:
    code = x86.instructions(DISASSEMBLY)
    found = x86.lay(code, {0x100B: 42, 0x1000: 11, 0x1028: 30, 0x1030: 1})
    row = report.row("tiny", 2, Samples(Counter(), 16, 2.0), found)
    assert row["samples"] == 100
    assert row["kinds_ms"] == {
        "multiplying": 0.84,
        "around": 0.22,
        "mixed": 0.0,
        "without": 0.62,
        "beside": 0.32,
    }
    assert row["hottest"]["body"] == list(found[0].body)
    text = "\n".join(report.section(result_of({"rows": [row]})))
    assert "| tiny | 2 | 2.00 | 0.84 (42%) | 0.22 (11%) | 0.00 (0%) | 0.62 (31%) |" in text
    assert "vfnmadd231ps 0x40(%rcx),%zmm3,%zmm1" in text


def test_a_loop_with_few_multiply_adds_is_mixed() -> None:
    lines = [f"    {address:x}:\tvaddps %zmm1,%zmm2,%zmm3" for address in range(0x1000, 0x1003)]
    lines += ["    1003:\tvfmadd231ps %zmm2,%zmm3,%zmm1", "    1004:\tjne 1000"]
    found = x86.lay(x86.instructions("\n".join(lines)), {0x1001: 3})
    assert report.row("tiny", 1, Samples(Counter(), 1, 4.0), found)["kinds_ms"]["mixed"] == 3.0


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only loops of x86 are known")
def test_figures_are_written_only_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = x86.lay(x86.instructions(DISASSEMBLY), {0x100B: 1})
    row = report.row("flattened", 1, Samples(Counter(), 1, 2.0), found)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(samples, "_sampled", lambda *_: [row])
    assert samples.main(["--model", "flattened"]) == 0
    assert list(tmp_path.iterdir()) == []
    assert samples.main(["--model", "flattened", "--json", "samples.json"]) == 0
    assert results_file.read(tmp_path / "samples.json").data == {"rows": [row]}
    assert "| flattened | 1 | 2.00 |" in capsys.readouterr().out
