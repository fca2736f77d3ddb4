"""``python -m tvm_eff.device.opencl``: make the plug-in, for this machine or for a board."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from tvm_eff.cli.run import run
from tvm_eff.device.opencl.plugin import ARCHITECTURES, LIBRARY, build
from tvm_eff.errors import UsageError


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return run(_main, argv)


def _main(argv: list[str] | None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tvm_eff.device.opencl",
        description="Make the OpenCL runtime for TVM's wheels; see docs/opencl.md.",
    )
    parser.add_argument("--arch", choices=ARCHITECTURES, help="what `uname -m` says on the board")
    parser.add_argument("--output", type=Path, help=f"where to copy it to, such as {LIBRARY}")
    arguments = parser.parse_args(argv)
    library = build(arguments.arch)
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
    sys.exit(main())
