"""Find the first kernel of a bundle's library whose result differs from PyTorch's."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tvm_eff.cli.board_options import add_key_options, key_of
from tvm_eff.cli.model_options import MODEL_HELP
from tvm_eff.cli.run import run

WRONG = 1
"""The exit code where a kernel is wrong."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return run(_main, argv)


def _main(argv: list[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    # Late, so that --help and a mistyped option need not wait for TVM.
    from tvm_eff.deploy.bisect import Options, bisect

    found = bisect(
        Options(
            bundle=arguments.bundle,
            on=arguments.on,
            key=key_of(arguments),
            model=arguments.model,
            weights=arguments.weights,
            preprocess=arguments.preprocess,
            state=arguments.state,
            calibrate=arguments.calibrate,
            target=arguments.target,
            output=arguments.output,
        )
    )
    print(json.dumps(found.as_dict(), indent=2) if arguments.json else found.text())
    return 0 if found.right else WRONG


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tvm-eff bisect",
        description="Run a bundle's kernels one by one on a device, each fed with the right "
        "inputs, and name the first whose result differs from PyTorch's: its operators, its "
        "schedule, its error, and a script that shows it. The exit code is 0 if all kernels are "
        "right, 1 if one is wrong, 2 if nothing could be compared.",
    )
    parser.add_argument("bundle", type=Path, help="the bundle's folder, such as dist/...")
    parser.add_argument(
        "--on",
        metavar="DEVICE",
        help="host, emulated, or HOST:PORT of a board's RPC server (default: this machine if the "
        "library runs on it, or else the emulated board)",
    )
    add_key_options(parser)
    parser.add_argument(
        "--model", help=f"what the bundle was built from, unless it is of the zoo: {MODEL_HELP}"
    )
    parser.add_argument(
        "--weights", type=Path, metavar="FILE", help="the trained weights it was built with"
    )
    parser.add_argument(
        "--preprocess", metavar="mean=...,std=...", help="the preparation it was built with"
    )
    parser.add_argument("--state", action="store_true", help="it was built with --state")
    parser.add_argument(
        "--calibrate", metavar="DATA", help="the data that it was quantized on, if it was"
    )
    parser.add_argument(
        "--target", help="the target it was built for, if that is a file of your own"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="where to write the reproducing script (default: the bundle's folder with -bisect)",
    )
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")
    return parser
