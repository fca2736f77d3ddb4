"""The C compiler and linker: zig from PyPI, which cross-compiles for every target.

One wheel brings clang, lld and the glibc stubs of every version, so a fresh
machine needs no system compiler, and a library can ask for an older glibc than
the build machine's.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tvm_eff import paths
from tvm_eff.errors import BuildError, SetupError

# Clang's sanitizer is zig's default: its runtime is compiled, for three seconds, before the first
# link for a target.
_NOT_SANITIZED = {tool: ["-fno-sanitize=undefined"] for tool in ("cc", "c++")}


def zig() -> Path:
    """Return the path of the zig executable.

    Raises
    ------
    SetupError
        The package ``ziglang`` is not installed.
    """
    try:
        import ziglang
    except ImportError as error:
        raise SetupError(
            "the package 'ziglang' (C compiler and linker) is not installed; "
            "run: pip install ziglang"
        ) from error
    return Path(ziglang.__file__).parent / "zig"


def run(arguments: Sequence[str | Path]) -> None:
    """Run zig with `arguments`, those of a compiler without a sanitizer.

    Raises
    ------
    BuildError
        zig exits with an error; the message carries what it printed.
    """
    tool, *others = map(str, arguments)
    command = [str(zig()), tool, *_NOT_SANITIZED.get(tool, []), *others]
    environment = os.environ | {"ZIG_GLOBAL_CACHE_DIR": str(paths.cache_folder() / "zig")}
    # zig puts its local cache where it stands, which may be read-only.
    environment.setdefault("ZIG_LOCAL_CACHE_DIR", environment["ZIG_GLOBAL_CACHE_DIR"])
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        printed = (done.stderr or done.stdout).strip()
        raise BuildError(f"{' '.join(command[1:5])} ... failed:\n{printed[-4000:]}")


def compile_shared(
    inputs: Sequence[Path],
    output: Path,
    triple: str,
    *,
    cpp: bool = False,
    flags: Sequence[str] = (),
) -> None:
    """Compile and link sources or objects into a shared library.

    Parameters
    ----------
    inputs
        C, C++ or object files.
    output
        The shared library to write.
    triple
        zig's triple with its glibc floor, such as ``aarch64-linux-gnu.2.31``.
    cpp
        Whether the inputs are C++.
    flags
        Further compiler flags.
    """
    run(
        [
            "c++" if cpp else "cc",
            "-target",
            triple,
            "-shared",
            "-fPIC",
            *flags,
            *inputs,
            "-o",
            output,
        ]
    )


def link_shared(objects: Sequence[Path], output: Path) -> None:
    """Link position-independent objects into a shared library with lld alone.

    Nothing of libc is named in the result, so it loads only into a process that
    already has libc and libm: a device that measures a candidate. It takes 10 ms
    where :func:`compile_shared` takes a second.
    """
    run(["ld.lld", "-shared", "--threads=1", *objects, "-o", output])
