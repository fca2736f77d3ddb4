"""Sign a bundle with an Ed25519 key."""

from __future__ import annotations

import argparse
from pathlib import Path

from tvm_eff.cli.run import run


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return run(_main, argv)


def _main(argv: list[str] | None) -> None:
    arguments = _parser().parse_args(argv)
    from tvm_eff.deploy.bundle import read

    print(f"signature    {read(arguments.bundle).sign(arguments.key)}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tvm-eff sign",
        description="Sign a bundle's manifest, which has the hashes of its files, so that "
        "tvm_eff.load(..., public_key=...) and bench --public-key take no other.",
    )
    parser.add_argument("bundle", type=Path, help="the bundle's folder, such as dist/...")
    parser.add_argument(
        "--key",
        type=Path,
        required=True,
        metavar="FILE",
        help="an Ed25519 private key, as openssl genpkey or ssh-keygen make it",
    )
    return parser
