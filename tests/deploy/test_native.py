"""A native library: the same numbers as the virtual machine's, from C, Python and over RPC."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import planted
import pytest
import torch
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection
from torch import nn

import tvm_eff
from tvm_eff import frontend, passes, paths, targets
from tvm_eff.codegen import checksum, toolchain
from tvm_eff.deploy import machine
from tvm_eff.deploy.library import build_library
from tvm_eff.deploy.manifest import TensorInfo
from tvm_eff.deploy.native.library import build_native_library
from tvm_eff.deploy.native.model import NativeModel
from tvm_eff.deploy.native.plan import Plan
from tvm_eff.deploy.native.planner import NotStraightError, plan
from tvm_eff.device import Device, EmulatedDevice, LocalDevice
from tvm_eff.errors import BundleError, ExecutionError
from tvm_eff.models import Network, Program, trace
from tvm_eff.targets import Target, architectures
from tvm_eff.tensors import TensorSpec, random_inputs

PROGRAM = Path(__file__).parent / "native" / "program.c"
OPENS = Path(__file__).parent / "native" / "opens.c"
IMAGE = TensorSpec((1, 3, 12, 12), "float32")


class Fire(nn.Module):
    """Kernels that follow each other, one that writes in place, and a reshape."""

    def __init__(self) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(3, 8, 3, stride=2)
        self.left, self.right = nn.Conv2d(8, 16, 1), nn.Conv2d(8, 16, 3, padding=1)
        self.head = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        squeezed = self.squeeze(x).relu()
        both = torch.cat([self.left(squeezed), self.right(squeezed)], 1).relu()
        return self.head(both.mean((2, 3)))


class Several(nn.Module):
    """Outputs that are an input, a constant, each other, and integers."""

    ones: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("ones", torch.ones(2, 3))

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        z = x + y
        return z, x, self.ones, z, z.argmax(1), z.reshape(3, 2)


@dataclass(frozen=True)
class Made:
    program: Program
    plan: Plan
    library: Path
    machines: Path

    @property
    def infos(self) -> tuple[list[TensorInfo], list[TensorInfo]]:
        taken = zip(self.program.inputs, self.plan.inputs, strict=True)
        given = zip(self.program.outputs, self.plan.outputs, strict=True)
        return (
            [TensorInfo(name, spec.shape, spec.dtype) for name, spec in taken],
            [TensorInfo(name, spec.shape, spec.dtype) for name, spec in given],
        )

    def model(self, threads: int | None = None) -> NativeModel:
        return NativeModel(self.library, *self.infos, threads)


def make(module: nn.Module, specs: tuple[TensorSpec, ...], target: Target, folder: Path) -> Made:
    torch.manual_seed(0)
    program = trace(Network("net", module.eval(), specs))
    lowered = passes.lower(frontend.import_program(program), target)
    library, machines = folder / f"{target.name}.so", folder / f"{target.name}-vm.so"
    plan = build_native_library(program, lowered, None, target, library)
    build_library(lowered, None, target, machines)
    return Made(program, plan, library, machines)


@pytest.fixture(scope="module")
def fire(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(Fire(), (IMAGE,), targets.load("host"), tmp_path_factory.mktemp("fire"))


@pytest.fixture(scope="module")
def device() -> Iterator[Device]:
    with LocalDevice() as opened:
        yield opened


def test_a_network_that_branches_needs_the_virtual_machine(tmp_path: Path) -> None:
    from tvm import relax

    x = relax.Var("x", relax.TensorType((2, 3), "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        builder.emit_func_output(builder.emit(relax.op.shape_of(x)))
    with pytest.raises(NotStraightError, match=r"a call of relax\.shape_of"):
        plan(builder.get())


def test_the_same_bits_as_the_virtual_machines(fire: Made, device: Device) -> None:
    inputs = random_inputs([IMAGE])
    expected, _ = device.run(fire.machines, inputs)
    found, _ = device.run(fire.library, inputs)
    np.testing.assert_array_equal(found[0], expected[0])
    for threads in (1, 2, None):
        np.testing.assert_array_equal(fire.model(threads)(inputs)[0], expected[0])


def test_it_needs_libc_alone_and_exports_its_interface(fire: Made) -> None:
    with fire.library.open("rb") as file:
        read = ELFFile(file)
        dynamic, names = map(read.get_section_by_name, (".dynamic", ".dynsym"))
        assert isinstance(dynamic, DynamicSection) and isinstance(names, SymbolTableSection)
        needed = {tag.needed.partition(".")[0] for tag in dynamic.iter_tags("DT_NEEDED")}
        symbols = list(names.iter_symbols())
    assert needed == {"libc"}
    exported = {each.name for each in symbols if each.name and each["st_shndx"] != "SHN_UNDEF"}
    kernels = {f"__tvm_ffi_{each.kernel}" for each in fire.plan.calls}
    assert exported == kernels | {
        "tvm_eff_this_library",
        "__tvm_ffi_main",
        "__tvm_ffi_tvm_eff_output",
        "__tvm_ffi_tvm_eff_output_count",
    }
    weights = sum(each.nbytes for each in fire.plan.constants)
    assert fire.library.stat().st_size - weights < 250_000


def test_outputs_that_nobody_computes(tmp_path: Path, device: Device) -> None:
    specs = (TensorSpec((2, 3), "float32"), TensorSpec((2, 3), "float32"))
    made = make(Several(), specs, targets.load("host"), tmp_path)
    inputs = random_inputs(specs)
    found = made.model()(inputs)
    over_rpc, _ = device.run(made.library, inputs)
    for ours, theirs, wanted in zip(found, over_rpc, made.program.run(inputs), strict=True):
        np.testing.assert_array_equal(ours, wanted)
        np.testing.assert_array_equal(theirs, wanted)


def test_a_library_of_another_network(fire: Made) -> None:
    inputs, _ = fire.infos
    with pytest.raises(BundleError, match="holds another network than the manifest says"):
        NativeModel(fire.library, inputs, [TensorInfo("y", (1, 10), "float32")])


def test_a_processor_that_lacks_a_feature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "needed_features", lambda target: ["avx4096"])
    made = make(nn.ReLU(), (IMAGE,), targets.load("host"), tmp_path)
    with pytest.raises(BundleError, match=r"net was built for host, and .* lacks avx4096"):
        made.model()


def test_a_processor_that_lacks_a_feature_over_rpc(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TVM would tell another error, or crash, if the library raised none."""
    monkeypatch.setattr(machine, "needed_features", lambda target: ["avx4096"])
    made = make(nn.ReLU(), (IMAGE,), targets.load("host"), tmp_path)
    for _ in range(2):
        with pytest.raises(ExecutionError, match=r"built for host, and .* lacks avx4096"):
            device.run(made.library, random_inputs([IMAGE]))


@pytest.mark.parametrize("architecture", architectures.ARCHITECTURES)
def test_the_library_knows_all_features_that_it_may_need(architecture: str) -> None:
    """One that it does not know it takes for one that the processor lacks."""
    source = paths.data_folder("runtime") / "native" / "processor.c"
    known = set(re.findall(r'\{"(\w+)"', source.read_text()))
    assert set(architectures.ARCHITECTURES[architecture].linux_features.values()) <= known


def test_what_is_no_library(tmp_path: Path, fire: Made) -> None:
    (tmp_path / "text.so").write_text("no library")
    for path in (tmp_path / "text.so", tmp_path / "none.so", fire.machines):
        with pytest.raises(BundleError, match="cannot be loaded"):
            NativeModel(path, *fire.infos)


def compiled(made: Made, target: Target, folder: Path) -> list[str]:
    """Compile the program in C against the library, and write what it reads."""
    inputs = random_inputs([IMAGE])
    inputs[0].tofile(folder / "input")
    with LocalDevice() as here:
        expected = here.run(made.machines, inputs)[0] if target.is_host else None
    if expected is not None:
        expected[0].tofile(folder / "expected")
    toolchain.run(
        [
            *("cc", "-target", target.toolchain.zig_triple, "-std=c11", "-D_GNU_SOURCE"),
            *("-Wall", "-Wextra", "-Werror", f"-I{paths.data_folder('runtime') / 'native'}"),
            *(PROGRAM, made.library, "-Wl,-rpath,$ORIGIN", "-lpthread"),
            *("-o", made.library.with_name("program")),
        ]
    )
    return [str(made.library.with_name("program")), str(folder / "input"), str(folder / "expected")]


def test_a_program_in_c(fire: Made, tmp_path: Path) -> None:
    words = compiled(fire, targets.load("host"), tmp_path)
    done = subprocess.run([*words, "200"], capture_output=True, text=True, timeout=300, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("ok\n", "", 0)


def test_a_service_that_opens_and_closes(fire: Made, tmp_path: Path) -> None:
    """With what benchmarks/endurance.py does a thousand times to libraries of the zoo."""
    program = tmp_path / "endurance"
    source = Path(__file__).parents[2] / "benchmarks" / "endurance.c"
    headers = f"-I{paths.data_folder('runtime') / 'native'}"
    toolchain.run(["cc", "-O1", headers, source, "-ldl", "-lpthread", "-o", program])
    other = shutil.copy(fire.library, tmp_path / "other.so")
    cycles: list[str | Path] = ["cycles", fire.library, "50"]
    for words in (cycles, ["threads", fire.library, other, "20"]):
        done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
        assert (done.stderr, done.returncode) == ("", 0)
        if words is cycles:
            before, after = map(int, done.stdout.split())
            assert after - before < 512


OPENING: list[str | Path] = [
    *("-Wall", "-Wextra", "-Werror", OPENS),
    f"-I{paths.data_folder('runtime') / 'native'}",
]


@pytest.fixture(scope="module")
def opens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that opens a library by its path."""
    program = tmp_path_factory.mktemp("opens") / "program"
    toolchain.run(["cc", "-std=c11", "-O1", *OPENING, "-ldl", "-o", program])
    return program


def test_the_headers_are_cpp_too(tmp_path: Path) -> None:
    # Not linked: zig would compile all of libc++ for it.
    toolchain.run(["c++", "-x", "c++", "-std=c++11", *OPENING, "-c", "-o", tmp_path / "opens.o"])


def message_of(program: Path, library: Path) -> str:
    done = subprocess.run([program, library], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done
    return done.stdout.strip()


DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda content: b"", "it is no file, or empty: copy it again"),
    "a little": (lambda content: content[:10], "or not all of it: copy it again"),
    "torn": (lambda content: content[: len(content) // 2], "or not all of it: copy it again"),
    "without its end": (lambda content: content[:-1], "or not all of it: copy it again"),
    "one bit in the middle": (
        lambda content: flipped(content, len(content) // 2),
        "it is damaged, its checksum is another: copy it again",
    ),
    "the first bit": (lambda content: flipped(content, 0), "it is damaged"),
    "the last bit": (lambda content: flipped(content, len(content) - 1), "it is damaged"),
}


def flipped(content: bytes, place: int) -> bytes:
    changed = bytearray(content)
    changed[place] ^= 1
    return bytes(changed)


def test_a_library_that_is_opened(fire: Made, opens: Path) -> None:
    assert message_of(opens, fire.library) == "net"


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_library_is_not_loaded(
    fire: Made, opens: Path, tmp_path: Path, name: str
) -> None:
    damage, message = DAMAGES[name]
    (tmp_path / "model.so").write_bytes(damage(fire.library.read_bytes()))
    assert message in message_of(opens, tmp_path / "model.so")


def test_other_files_are_not_loaded(fire: Made, opens: Path, tmp_path: Path) -> None:
    assert "No such file" in message_of(opens, tmp_path / "none.so")
    assert "it is no file" in message_of(opens, tmp_path)
    assert "no library of tvm_eff's" in message_of(opens, fire.machines)


def test_a_library_of_another_architecture(opens: Path, tmp_path: Path) -> None:
    made = make(Fire(), (IMAGE,), targets.load("rasp4"), tmp_path)
    assert "it is for another architecture: build it for this one" in message_of(
        opens, made.library
    )


def test_the_checksum_of_any_length(opens: Path, tmp_path: Path) -> None:
    for size in (0, 1, 31, 32, 33, (1 << 19) - 8, (1 << 19) + 5, 3 << 19):
        path = tmp_path / str(size)
        path.write_bytes(np.random.default_rng(size).bytes(size))
        checksum.append(path)
        # What is no ELF is the system's loader's to refuse, behind our check.
        assert not re.search("damaged|not all of it", message_of(opens, path))


def test_weights_that_are_made_at_load(tmp_path: Path) -> None:
    built = planted.write(tmp_path / "build", chosen=planted.winograd())
    loaded = planted.write(tmp_path / "load", chosen=planted.winograd(), at_load=True)
    sizes = [each.library.stat().st_size for each in (built, loaded)]
    assert sizes[0] - sizes[1] > 5_000
    x = random_inputs([TensorSpec(planted.SHAPE, "float32")], 3)[0]
    results = [each.run(x) for each in (built, loaded)]
    np.testing.assert_allclose(results[0], results[1], rtol=1e-4, atol=1e-5)
    again = tvm_eff.load(loaded.folder, threads=1)
    np.testing.assert_array_equal(again(x), results[1])
    np.testing.assert_array_equal(again(x), results[1])


@pytest.mark.parametrize("name", ["rasp4", "rasp3-armv7"])
def test_on_the_emulated_board(tmp_path: Path, name: str) -> None:
    target = targets.load(name)
    assert target.emulator is not None
    made = make(Fire(), (IMAGE,), target, tmp_path)
    inputs = random_inputs([IMAGE])
    with EmulatedDevice(target.emulator.arch, target.emulator.cpu) as board:
        expected, _ = board.run(made.machines, inputs)
        found, _ = board.run(made.library, inputs)
    np.testing.assert_array_equal(found[0], expected[0])
