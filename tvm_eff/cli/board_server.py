"""``board-server``: make the RPC server of a board that has neither Python nor TVM."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from tvm_eff.cli.run import leave, run
from tvm_eff.errors import UsageError


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return run(_main, argv)


def _main(argv: list[str] | None) -> None:
    arguments = _parser().parse_args(argv)
    from tvm_eff.device import native_server

    glibc = arguments.glibc or native_server.OLDEST_GLIBC
    built = native_server.build(arguments.arch, glibc=glibc, on_progress=_show_progress)
    _copy(built, arguments.output)
    print(_usage(arguments.output, arguments.arch))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tvm-eff board-server",
        description="Make the RPC server that runs on a board which has neither Python nor TVM.",
    )
    parser.add_argument(
        "--arch", required=True, help="what `uname -m` says there, such as aarch64 or armv7l"
    )
    parser.add_argument("--glibc", help="its oldest glibc (default: 2.31)")
    parser.add_argument(
        "--output", type=Path, default=Path("tvm_eff_server"), help="(default: %(default)s)"
    )
    return parser


def _show_progress(done: int, count: int) -> None:
    if sys.stderr.isatty():
        end = "\n" if done == count else ""
        print(f"\rcompiled {done} of {count} parts", end=end, file=sys.stderr, flush=True)


def _copy(built: Path, output: Path) -> None:
    try:
        shutil.copy2(built, output)
    except OSError as error:
        raise UsageError(
            f"cannot write {output}: {error.strerror}; name another --output"
        ) from error


def _usage(output: Path, arch: str) -> str:
    return f"""\
Wrote {output} ({output.stat().st_size / 1e6:.1f} MB, {arch}).
On the board (any folder; it needs nothing else):
  scp {output} USER@BOARD:   and then on the board:
  ./{output.name} --port 9090 --host 127.0.0.1
From here, through ssh, which is the safe way since the server runs whatever it is sent:
  ssh -N -L 9090:127.0.0.1:9090 USER@BOARD    and use --rpc 127.0.0.1:9090
In a network where you trust everybody: --host 0.0.0.0 on the board, and --rpc BOARD:9090.
TVM_NUM_THREADS=4 in front of it limits the threads."""


if __name__ == "__main__":
    leave(main())
