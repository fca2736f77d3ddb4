"""``tvm-eff VERB ...``: one verb, one module of this package."""

from __future__ import annotations

import sys
from importlib import import_module

from tvm_eff import __version__
from tvm_eff.cli.run import INTERRUPTED, USER_ERROR, leave
from tvm_eff.errors import nearest, not_installed

VERBS = {
    "tune": "build a validated library for a target",
    "bench": "check and time a library",
    "inspect": "say what a library holds and needs, without running it",
    "sign": "sign a library's bundle with an Ed25519 key",
    "bisect": "find the kernel of a library that is wrong",
    "cost": "count what a network costs on paper, layer by layer",
    "models": "list the models known by name",
    "records": "list tuning records, or prune them to ship",
    "doctor": "what this machine has: packages, tools, OpenCL devices",
    "board-server": "make the RPC server of a board without Python",
    "opencl-plugin": "make the OpenCL runtime for TVM's wheels",
}


def main() -> int:
    """Call the verb's module."""
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        print("usage: tvm-eff VERB ...        (tvm-eff VERB --help says more)\n")
        for verb, what in VERBS.items():
            print(f"  {verb:14} {what}")
        return 0
    verb = words[0]
    if verb == "--version":
        print(f"tvm-eff {__version__}")
        return 0
    if verb not in VERBS:
        print(f"error: unknown verb '{verb}'{nearest(verb, VERBS)}", file=sys.stderr)
        return USER_ERROR
    try:
        module = import_module(f"tvm_eff.cli.{verb.replace('-', '_')}")
    except ModuleNotFoundError as error:
        print(f"error: {not_installed(error)}", file=sys.stderr)
        return USER_ERROR
    code = int(module.main(words[1:]))
    return leave(code) if code > INTERRUPTED else code


if __name__ == "__main__":
    sys.exit(main())
