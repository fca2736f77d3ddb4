"""Time a bundle here, on a real board or on the emulated board, after checking its outputs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tvm_eff.cli.arguments import add_public_key, positive
from tvm_eff.cli.board_options import add_key_options, key_of
from tvm_eff.cli.run import run


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return run(_main, argv)


def _main(argv: list[str] | None) -> None:
    arguments = _parser().parse_args(argv)
    # Late, so that --help and a mistyped option need not wait for TVM.
    from tvm_eff.deploy.bench import Options, bench

    report = bench(
        Options(
            bundle=arguments.bundle,
            rpc=arguments.rpc,
            key=key_of(arguments),
            emulated=arguments.emulated,
            threads=arguments.threads,
            repeat=arguments.repeat,
            public_key=arguments.public_key,
        )
    )
    print(json.dumps(report.as_dict(), indent=2) if arguments.json else report.text())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tvm-eff bench",
        description="Check a bundle's outputs against PyTorch's, then time it. A bundle that "
        "runs on this machine is timed here; a board's is run on the emulated board, which counts "
        "instructions and says nothing about time, unless --rpc names a real one.",
    )
    parser.add_argument("bundle", type=Path, help="the bundle's folder, such as dist/...")
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--rpc", metavar="HOST:PORT", help="time it on this TVM RPC server")
    place.add_argument(
        "--emulated", action="store_true", help="count instructions on the emulated board"
    )
    add_key_options(parser)
    parser.add_argument(
        "--threads", type=positive, metavar="N", help="threads on this machine (default: all cores)"
    )
    parser.add_argument(
        "--repeat", type=positive, metavar="N", default=50, help="inferences to time (default: 50)"
    )
    add_public_key(parser)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    return parser
