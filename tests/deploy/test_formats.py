"""``--format``: an archive, a program, and how CMake and a compiler take a library."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from native_bundles import make, on_board, run
from torch import nn

import tvm_eff
from tvm_eff import paths, targets
from tvm_eff.cli import tune
from tvm_eff.codegen import toolchain
from tvm_eff.deploy.bundle import Bundle
from tvm_eff.errors import BundleError, UsageError

ROOT = Path(__file__).resolve().parents[2]
TWO = Path(__file__).parent / "native" / "two.c"
STRICT = ("-O2", "-Wall", "-Wextra", "-Werror")


class Sum(nn.Module):
    """A small one with a weight of its own."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        nn.init.constant_(self.layer.weight, weight)
        nn.init.constant_(self.layer.bias, 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x).relu()


def blocks(language: str) -> list[str]:
    """Return the examples of the page in a language."""
    page = (ROOT / "docs" / "native.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)


def program_of_the_page(folder: Path, entry: str = "tvm_eff_this_library") -> Path:
    (program,) = blocks("c")
    declared = f"const tvm_eff_library *{entry}(void);\n\nint main"
    changed = program.replace("tvm_eff_this_library", entry).replace("int main", declared)
    (folder / "program.c").write_text(changed)
    return folder / "program.c"


@pytest.fixture(scope="module")
def archived(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make(tmp_path_factory.mktemp("archived"), Sum(1.0), form="a", name="one", shape=(1, 4))


def test_formats_that_cannot_be_made(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    module, x = nn.ReLU(), torch.ones(1, 3)
    with pytest.raises(UsageError, match="unknown format 'so2'; did you mean 'so'"):
        tvm_eff.compile(module, x, format="so2", output=tmp_path)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="format"):
        tvm_eff.compile(module, x, format=None, output=tmp_path)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="'exe' cannot be made of what TVM's virtual machine"):
        tvm_eff.compile(module, x, runtime="virtual-machine", format="exe", output=tmp_path)
    with pytest.raises(UsageError, match="'a' cannot be made of what TVM's virtual machine"):
        tvm_eff.compile(module, x, target="rk3399-mali", format="a", output=tmp_path)
    with pytest.raises(SystemExit):
        tune.main(["--target", "host", "--model", "squeezenet", "--format", "dll"])
    assert "invalid choice: 'dll'" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_archive(archived: Bundle, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(archived.folder, tmp_path / "copied"))
    (folder / "libmodel.a").write_bytes(b"!<arch>\n")
    with pytest.raises(BundleError, match=r"libmodel\.a is damaged"):
        tvm_eff.load(folder)
    done = run(folder / "tvm_eff_run", folder)
    assert done.returncode == 1 and "libmodel.a is damaged" in done.stderr


def test_two_archives_in_one_program(archived: Bundle, tmp_path: Path) -> None:
    other = make(tmp_path, Sum(-0.1), form="a", name="other-net", shape=(1, 4))
    archives = [each.folder / "libmodel.a" for each in (archived, other)]
    # All that is in them, in either order.
    for whole in ((), ("-Wl,--whole-archive",)):
        toolchain.run(
            [
                *("cc", *STRICT, f"-I{archived.folder}", TWO, *whole, *archives),
                *("-lm", "-lpthread", "-o", tmp_path / "program"),
            ]
        )
        done = run(tmp_path / "program")
        ones = np.ones((1, 4), "float32")
        wanted = [float(np.ravel(tvm_eff.load(each.folder)(ones))[0]) for each in (archived, other)]
        assert wanted == pytest.approx([4.5, 0.1])
        one, first, two, second = done.stdout.split()
        assert (one, two) == ("one", "other-net")
        assert [float(first), float(second)] == pytest.approx(wanted, rel=1e-5)


def test_a_program_needs_libc_alone(tmp_path: Path) -> None:
    made = make(tmp_path, form="exe")
    program = shutil.move(made.folder / "model", tmp_path / "elsewhere")
    with Path(program).open("rb") as file:
        dynamic = ELFFile(file).get_section_by_name(".dynamic")
        assert isinstance(dynamic, DynamicSection)
        needed = {tag.needed.partition(".")[0] for tag in dynamic.iter_tags("DT_NEEDED")}
    assert needed <= {"libc", "libm", "libpthread", "ld-linux-x86-64"}
    done = run(program, "--json", "--repeat", "3", "--profile", cwd="/")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    shutil.copy(program, made.folder / "model")
    assert found["largest_error"] == pytest.approx(made.check(), rel=1e-8, abs=0)
    assert len(found["values"]) == 3 and found["kernels"]
    done = run(program, made.folder)
    assert done.returncode == 2 and "it takes no bundle" in done.stderr
    assert run(program, "--help").stdout.startswith("usage: model [options]")


def tool(name: str) -> str:
    """Return a program that is installed beside Python, or else anywhere."""
    beside = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    found = shutil.which(name, path=beside)
    assert found is not None, f"{name} is missing; run: pip install -e .[dev]"
    return found


@pytest.mark.parametrize("kind", ["shared", "static"])
def test_cmake(kind: str, archived: Bundle, tmp_path: Path) -> None:
    entry = "tvm_eff_this_library" if kind == "shared" else "tvm_eff_library_one"
    program_of_the_page(tmp_path, entry)
    (project,) = blocks("cmake")
    target = "tvm_eff::one" if kind == "shared" else "tvm_eff::one_static"
    project = project.replace("tvm_eff::squeezenet1_1", target)
    (tmp_path / "CMakeLists.txt").write_text(project)
    environment = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": str(paths.cache_folder() / "zig")}
    build = tmp_path / "build"
    configured = run(
        *(tool("cmake"), "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}"),
        *("-S", tmp_path, "-B", build, f"-Dtvm_eff_model_DIR={archived.folder}"),
        *(f"-DCMAKE_C_COMPILER={toolchain.zig()};cc", "-DCMAKE_C_FLAGS=-O2 -Wall -Wextra"),
        env=environment,
    )
    assert configured.returncode == 0, configured.stdout + configured.stderr
    built = run(tool("cmake"), "--build", build, env=environment)
    assert built.returncode == 0, built.stdout + built.stderr
    assert run(build / "program").stdout == "one: code 0, 0.5\n"


def test_the_headers_in_cpp(archived: Bundle, tmp_path: Path) -> None:
    (tmp_path / "user.cc").write_text(
        '#include "tvm_eff_open.h"\n'
        'const tvm_eff_library *opened() { return tvm_eff_open("model.so", nullptr); }\n'
    )
    toolchain.run(
        [
            *("c++", *STRICT, f"-I{archived.folder}", "-c", tmp_path / "user.cc"),
            *("-o", tmp_path / "user.o"),
        ]
    )


@pytest.mark.parametrize("target", ["rasp4", "rasp3-armv7"])
def test_a_compiler_for_a_board(target: str, tmp_path: Path) -> None:
    made = make(tmp_path, Sum(1.0), target=target, form="a", name="one", shape=(1, 4))
    for kind in ("shared", "static"):
        entry = "tvm_eff_this_library" if kind == "shared" else "tvm_eff_library_one"
        static = (made.folder / "libmodel.a", "-lm", "-lpthread")
        linked = static if kind == "static" else (made.library, f"-Wl,-rpath,{made.folder}")
        toolchain.run(
            [
                *("cc", "-target", targets.load(target).toolchain.zig_triple, *STRICT),
                *(f"-I{made.folder}", program_of_the_page(tmp_path, entry), *linked),
                *("-o", tmp_path / kind),
            ]
        )
        done = run(*on_board(made), tmp_path / kind)
        assert (done.stdout, done.returncode) == ("one: code 0, 0.5\n", 0), done.stderr
