"""Say what a bundle holds and needs, without running it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tvm_eff.cli.arguments import add_public_key
from tvm_eff.cli.run import run

PROBLEM = 1
"""The exit code where a library is not what its manifest says."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return run(_main, argv)


def _main(argv: list[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    from tvm_eff.deploy.bundle import read

    found = read(arguments.bundle, public_key=arguments.public_key).inspect()
    print(json.dumps(found.as_dict(), indent=2) if arguments.json else found.text())
    return PROBLEM if found.problems else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tvm-eff inspect",
        description="Say what a bundle holds and needs: sizes by section and by weight, memory, "
        "libraries, processor features asked for and instruction sets found in the code, "
        "validation, schedules. It may be for another machine. The exit code is 0, 1 if the "
        "library is not what the manifest says, 2 if the bundle cannot be read.",
    )
    parser.add_argument("bundle", type=Path, help="the bundle's folder, such as dist/...")
    add_public_key(parser)
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    return parser
