"""``opencl-plugin``: make the OpenCL runtime for TVM's wheels, here or for a board."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from tvm_eff.cli.run import leave, run
from tvm_eff.errors import UsageError


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return run(_main, argv)


def _main(argv: list[str] | None) -> None:
    parser = argparse.ArgumentParser(
        prog="tvm-eff opencl-plugin",
        description="Make the OpenCL runtime for TVM's wheels; see docs/opencl.md.",
    )
    parser.add_argument(
        "--arch", help="what `uname -m` says on the board, such as aarch64 (default: this machine)"
    )
    parser.add_argument(
        "--output", type=Path, help="where to copy it to, such as libtvm_runtime_opencl.so"
    )
    arguments = parser.parse_args(argv)
    from tvm_eff.device import opencl

    library = opencl.build(arguments.arch)
    if arguments.output is not None:
        library = _copy(library, arguments.output)
    print(library)


def _copy(library: Path, output: Path) -> Path:
    try:
        return Path(shutil.copy2(library, output))
    except OSError as error:
        raise UsageError(
            f"cannot write {output}: {error.strerror}; name another --output"
        ) from error


if __name__ == "__main__":
    leave(main())
