"""The program that checks and times a native library where it lies: for a bundle, or linked."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tvm_eff import paths
from tvm_eff.codegen import toolchain
from tvm_eff.codegen.archive import StaticArchive
from tvm_eff.scratch import scratch_folder
from tvm_eff.targets import Target

# What a program has that opens a bundle, and what one that is linked with its network.
_FOR_BUNDLES = ("bundle.c", "files.c", "sha256.c")
_LINKED = ("linked.c",)
_FLAGS = ("-std=c11", "-O2", "-DNDEBUG", "-s", "-Wl,--gc-sections")


def runs_on(target: Target) -> bool:
    """Whether there is a runner for a target's system: it asks Linux for clocks and memory."""
    return "linux" in target.toolchain.zig_triple


def build_runner(target: Target, bundle_format: int, program: Path) -> None:
    """Compile the program that runs a bundle.

    Parameters
    ----------
    target
        What it is for.
    bundle_format
        The newest format of bundles that it reads.
    program
        The executable to write.

    Raises
    ------
    BuildError
        The compiler refuses it.
    """
    defined = f"-DTVM_EFF_BUNDLE_FORMAT={bundle_format}"
    _compile(target, _sources(without=_LINKED), [defined, "-ldl"], program)


def build_executable(archive: StaticArchive, golden: Path, target: Target, program: Path) -> None:
    """Link the runner, a network and its golden inputs and outputs into one program.

    Parameters
    ----------
    archive
        The network.
    golden
        Its golden inputs and outputs, as a bundle has them.
    target
        What it is for.
    program
        The executable to write.

    Raises
    ------
    BuildError
        The compiler refuses it.
    """
    with scratch_folder() as folder:
        included = folder / "golden.S"
        included.write_text(_included(golden), encoding="ascii")
        flags = [f"-DTVM_EFF_ENTRY={archive.entry}", f"-I{golden.parent}"]
        linked: list[str | Path] = [included, archive.path, "-lpthread"]
        _compile(target, _sources(without=_FOR_BUNDLES), [*flags, *linked], program)


def _compile(
    target: Target, sources: Iterable[Path], others: Iterable[str | Path], program: Path
) -> None:
    native = paths.data_folder("runtime") / "native"
    words: list[str | Path] = ["cc", "-target", target.toolchain.zig_triple, *_FLAGS]
    words.append(f"-I{native}")
    words.extend(sources)
    words.extend(others)
    words.extend(("-lm", "-o", program))
    toolchain.run(words)


def _sources(without: Iterable[str]) -> list[Path]:
    folder = paths.data_folder("runtime") / "native" / "run"
    return [each for each in sorted(folder.glob("*.c")) if each.name not in without]


def _included(golden: Path) -> str:
    return f"""\
.section .rodata,"a",%progbits
.balign 64
.global tvm_eff_golden, tvm_eff_golden_end
tvm_eff_golden: .incbin "{golden.name}"
tvm_eff_golden_end: .byte 0
.section .note.GNU-stack,"",%progbits
"""
