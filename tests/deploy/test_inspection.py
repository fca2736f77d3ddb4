"""What a bundle holds and needs, by its files alone, whatever machine it is for."""

from __future__ import annotations

import ctypes
import dataclasses
import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from made_bundles import MEASURED, Maker
from torch import nn

import tvm_eff
from tvm_eff import targets
from tvm_eff.cli.inspect import main
from tvm_eff.codegen import toolchain
from tvm_eff.deploy import bundle, inspection
from tvm_eff.deploy.bundle import Bundle
from tvm_eff.deploy.inspection import elf, instructions
from tvm_eff.deploy.inspection.growth import growth, in_words
from tvm_eff.deploy.manifest import WeightInfo
from tvm_eff.errors import BuildError, BundleError, SetupError

TRIPLES = {
    "x86_64": "x86_64-linux-gnu",
    "aarch64": "aarch64-linux-gnu",
    "arm": "arm-linux-gnueabihf",
}


class Net(nn.Module):
    """A convolution with a batch norm, and a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.dense = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dense(torch.relu(self.norm(self.conv(x))).mean((2, 3)))


def compiled(folder: Path, target: str, **options: Any) -> Bundle:
    return tvm_eff.compile(
        Net().eval(),
        torch.ones(1, 3, 12, 12),
        target=target,
        measure=False,
        output=folder / "dist",
        logs=folder / "logs",
        **options,
    )


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return compiled(tmp_path_factory.mktemp("native"), "host", runtime="native")


def weight_bytes(library: Path) -> int:
    """Ask a native library for the bytes of its weights: the ninth word of tvm_eff_library."""
    function = ctypes.CDLL(str(library)).tvm_eff_this_library
    function.restype = ctypes.POINTER(ctypes.c_size_t * 9)
    return int(function().contents[8])


def edited(made: Bundle, folder: Path, change: Callable[[dict[str, Any]], object]) -> Bundle:
    """Copy a bundle with another manifest."""
    shutil.copytree(made.folder, folder)
    path = folder / "manifest.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    return bundle.read(folder)


def replaced(made: Bundle, folder: Path, library: bytes) -> Bundle:
    """Copy a bundle with another library, which its manifest describes."""

    def describe(data: dict[str, Any]) -> None:
        data["files"]["model.so"] = hashlib.sha256(library).hexdigest()
        data["sizes"]["model.so"] = len(library)

    shutil.copytree(made.folder, folder / "all")
    (folder / "all" / "model.so").write_bytes(library)
    shutil.copy(made.folder / "manifest.json", folder / "all")
    path = folder / "all" / "manifest.json"
    data = json.loads(path.read_text())
    describe(data)
    path.write_text(json.dumps(data))
    return bundle.read(folder / "all")


def test_a_library_that_is_cut_short(native: Bundle, tmp_path: Path) -> None:
    whole = native.library.read_bytes()
    for size in (17, 80, len(whole) // 2):
        made = replaced(native, tmp_path / str(size), whole[:size])
        with pytest.raises(BundleError, match=r"model\.so cannot be read as a library"):
            made.inspect()


def test_a_library_of_another_system(native: Bundle, tmp_path: Path) -> None:
    made = replaced(native, tmp_path, b"\xcf\xfa\xed\xfe" + bytes(100))
    found = made.inspect()
    assert (found.library, found.instruction_sets, found.problems) == (None, None, ())
    assert "no ELF file" in found.text()


def test_a_library_for_another_machine_than_the_manifest_says(
    native: Bundle, maker: Maker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = replaced(native, tmp_path, maker.library("rasp4").read_bytes())
    assert main([str(made.folder)]) == 1
    assert "problem      the library is for aarch64, and the" in capsys.readouterr().out


def test_code_that_nobody_asked_the_processor_for(
    maker: Maker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = edited(
        maker.write(tmp_path / "made", "rasp3-armv7"),
        tmp_path / "edited",
        lambda data: data["target"].update(cpu_features=[]),
    )
    assert main([str(made.folder), "--json"]) == 1
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert problem == (
        "the code has instructions of neon, which the manifest does not ask of the processor"
    )
    with pytest.raises(BuildError, match=r"code for rasp3 has instructions of neon, for which"):
        inspection.require_declared(made.library, "rasp3", ["vfpv4"])
    inspection.require_declared(made.library, "rasp3", ["neon"])


def test_a_newer_c_library_than_the_manifest_says(native: Bundle, tmp_path: Path) -> None:
    made = edited(native, tmp_path / "b", lambda data: data["target"].update(glibc="2.3.4"))
    (problem,) = made.inspect().problems
    assert problem.endswith("and the manifest says 2.3.4")


@pytest.mark.parametrize(
    ("missing", "target"),
    [("elftools.elf.elffile", "host"), ("iced_x86", "host"), ("capstone", "rasp4")],
)
def test_what_reads_libraries_is_not_there(
    maker: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str, target: str
) -> None:
    made = maker.write(tmp_path / "b", target)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(SetupError, match=r"is not installed.*pip install"):
        made.inspect()


def test_misuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "is not a bundle" in capsys.readouterr().err


def test_a_native_library(native: Bundle) -> None:
    found = native.inspect()
    weights = native.manifest.weights
    assert {each.parameters: (each.bytes, each.model_bytes) for each in weights} == {
        # What the batch norm has counts with the first that it is folded into.
        ("conv.weight", "norm.weight"): (864, 864 + 32),
        ("conv.bias", "norm.weight", "norm.bias"): (32, 32 + 32),
        ("dense.weight",): (160, 160),
        ("dense.bias",): (20, 20),
    }
    assert [each.kernel in native.manifest.kernels for each in weights] == [True] * 4
    memory = native.manifest.memory
    assert memory is not None
    assert memory.arena >= memory.least > 0
    assert found.library is not None
    assert "libc.so.6" in found.library.needed
    assert elf.version_key(found.library.glibc) >= (2, 17)
    stored = {each.name: each.bytes for each in found.library.sections}
    assert stored[".rodata"] > sum(each.bytes for each in weights)
    assert 0 < found.library.code_bytes < 250_000
    assert found.instruction_sets is not None
    assert set(found.instruction_sets) <= set(native.manifest.target.cpu_features)
    assert found.problems == ()
    text = found.text()
    assert "conv.weight, norm.weight" in text
    assert "libc.so.6" in text


class Twice(nn.Module):
    """A weight that two calls of a kernel take, and a constant."""

    last: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.register_buffer("last", torch.ones(8, 8, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.conv2d(self.conv(self.conv(x)), self.last)


def seeded_lstm(seed: int) -> nn.LSTM:
    torch.manual_seed(seed)
    return nn.LSTM(4, 6, batch_first=True)


@pytest.mark.parametrize(
    ("module", "x"),
    [
        (Twice(), torch.ones(1, 8, 9, 9)),
        (seeded_lstm(0), torch.ones(1, 5, 4)),
        (nn.ReLU(), torch.ones(1, 3)),
    ],
    ids=["twice", "recurrent", "none"],
)
def test_all_weights_are_listed(tmp_path: Path, module: nn.Module, x: torch.Tensor) -> None:
    made = tvm_eff.compile(
        module.eval(),
        x,
        runtime="native",
        measure=False,
        output=tmp_path / "dist",
        logs=tmp_path / "logs",
    )
    in_library = weight_bytes(made.library)
    assert sum(each.bytes for each in made.manifest.weights) == in_library
    own = {name: 4 * each.numel() for name, each in module.named_parameters()}
    counted = [each for each in made.manifest.weights if each.parameters]
    assert {name for each in counted for name in each.parameters} == own.keys()
    assert sum(each.model_bytes for each in counted) == sum(own.values())
    assert ("copies" in growth(made.manifest.weights)) == bool(own)


def test_everything_as_json(native: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(native.folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    manifest = json.loads((native.folder / "manifest.json").read_text())
    assert {key: found[key] for key in manifest} == manifest
    assert found["weight_bytes"] == 864 + 32 + 160 + 20
    assert found["measurement"]["unit"] == "seconds"
    assert found["library"]["code_bytes"] > 0


@pytest.mark.parametrize("target", ["host", "rasp4", "rasp3-armv7", "rk3399-mali"])
def test_a_library_of_the_virtual_machine(maker: Maker, tmp_path: Path, target: str) -> None:
    if targets.load(target).gpu is not None:
        made = compiled(tmp_path, target)
        assert made.manifest.target.opencl is not None
        assert made.manifest.weights
        assert "OpenCL 1.2" in made.inspect().text()
    else:
        made = maker.write(tmp_path / "b", target, measurement=MEASURED)
        assert made.manifest.weights == ()
        assert "not known" in made.inspect().text()
        assert "0.001 M instructions, not a latency" in made.inspect().text()
    found = made.inspect()
    assert found.library is not None
    assert found.library.architecture == made.manifest.target.arch
    assert found.problems == ()
    assert made.manifest.memory is None


X86_64 = """
vaddps %ymm0, %ymm1, %ymm2
vpaddd %ymm0, %ymm1, %ymm2
vfmadd231ps %ymm0, %ymm1, %ymm2
vfmadd231ps %zmm0, %zmm1, %zmm2
vpdpbusd %zmm0, %zmm1, %zmm2
vdpbf16ps %zmm0, %zmm1, %zmm2
vcvtph2ps %xmm0, %ymm1
shlx %rax, %rbx, %rcx
popcnt %rax, %rbx
lzcnt %rax, %rbx
addps %xmm0, %xmm1
xgetbv
"""
AARCH64 = """
sdot v0.4s, v1.16b, v2.16b
smmla v0.4s, v1.16b, v2.16b
bfdot v0.4s, v1.8h, v2.8h
fmla v0.8h, v1.8h, v2.h[1]
fadd h0, h1, h2
fmlal v0.4s, v1.4h, v2.4h
sqrdmlah v0.8h, v1.8h, v2.8h
ldaddal w0, w1, [x2]
casalb w0, w1, [x2]
fmla z0.s, p0/m, z1.s, z2.s
fmla v0.4s, v1.4s, v2.4s
fcvtl v0.4s, v1.4h
fcvt h0, s1
ldr h0, [x1]
sqrdmulh v0.8h, v1.8h, v2.8h
prfm pldl1keep, [x0]
"""
ARM = """
vfma.f32 q0, q1, q2
vadd.f32 q0, q1, q2
sdiv r0, r1, r2
add r0, r1, r2
"""


@pytest.mark.parametrize(
    ("architecture", "processor", "assembly", "expected"),
    [
        (
            "x86_64",
            "baseline",
            X86_64,
            {
                **{"avx": 1, "avx2": 1, "fma": 1, "avx512f": 2, "avx512_vnni": 1},
                **{"avx512_bf16": 1, "f16c": 1, "bmi2": 1, "popcnt": 1, "abm": 1},
            },
        ),
        (
            "aarch64",
            "generic+v8_6a+sve+fullfp16+fp16fml+bf16+i8mm+lse",
            AARCH64,
            {
                **{"asimddp": 1, "i8mm": 1, "bf16": 1, "asimdhp": 2, "asimdfhm": 1},
                **{"asimdrdm": 1, "atomics": 2, "sve": 1},
            },
        ),
        ("arm", "cortex_a15", ARM, {"neon": 2, "vfpv4": 1, "idiva": 1}),
    ],
)
def test_instruction_sets(
    tmp_path: Path, architecture: str, processor: str, assembly: str, expected: Mapping[str, int]
) -> None:
    (tmp_path / "code.s").write_text(f".text{assembly}")
    toolchain.run(
        [
            *("cc", "-target", TRIPLES[architecture], f"-mcpu={processor}", "-c"),
            *(tmp_path / "code.s", "-o", tmp_path / "code.o"),
        ]
    )
    read = elf.read(tmp_path / "code.o")
    assert read is not None
    assert read.architecture == architecture
    found = instructions.instruction_sets(architecture, read.code)
    assert found == dict(sorted(expected.items()))


def test_what_is_implied() -> None:
    assert instructions.undeclared(["abm", "bmi2", "sse4_1"], ["avx", "bmi2"]) == ()
    assert instructions.undeclared(["abm", "fma"], ["avx"]) == ("abm", "fma")
    assert instructions.instruction_sets("riscv64", []) is None


def test_growth() -> None:
    plain = WeightInfo(("a",), "k", (4,), "float32", 16, 16, "")
    listed = [
        plain,
        dataclasses.replace(plain, bytes=160, algorithm="winograd4"),
        dataclasses.replace(plain, bytes=260, algorithm="winograd2"),
        dataclasses.replace(plain, bytes=28, algorithm="strassen_row_blocks2"),
        dataclasses.replace(plain, bytes=8),
        dataclasses.replace(plain, model_bytes=0),
    ]
    assert growth(listed) == {
        **{"winograd": 388, "copies": 16, "strassen row blocks": 12, "other passes": -8},
    }
    assert in_words([plain]) == "0.00 MB for the model's 0.00 MB"
    assert "winograd +0.39" in in_words([dataclasses.replace(listed[1], bytes=390_016)])
