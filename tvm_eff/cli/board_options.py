"""The options that say how a board's server lets us in, shared by all verbs that take one."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path


def add_key_options(parser: ArgumentParser) -> None:
    """Add the two ways to give the key of an RPC server."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--key", default="", help="the key that RPC server was started with")
    group.add_argument(
        "--key-file",
        type=Path,
        metavar="FILE",
        help="a file that holds the key, which nobody then sees on the command line",
    )


def key_of(arguments: Namespace) -> str:
    """Return the key that the arguments give; empty if they give none.

    Raises
    ------
    UsageError
        The file cannot be read, or holds none.
    """
    if arguments.key_file is None:
        return str(arguments.key)
    from tvm_eff.device.rpc import read_key

    return read_key(arguments.key_file)
