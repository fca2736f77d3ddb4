"""A static check of our kernels' hot loops against the issue limits of an Arm core.

    python benchmarks/hotloops.py --target rasp4 --model squeezenet1_1

Executed instructions are no cycles: this looks at the innermost loops that do the
multiply-adds, in the assembly of each kernel built with its recorded schedule, and
asks how many instructions each multiply-add takes, whether registers are spilled, and
what the loop takes by LLVM's scheduling model of the core (llvm-mca, which is fetched).
The figures are reported and not judged: a table is printed, and --json writes what it is
made of, with the assembly of the loops that miss what is wanted.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import results_file
from loops.kernels import kernels
from loops.mca import version
from loops.report import markdown, row_of

from tvm_eff import api, models, targets
from tvm_eff.cli.run import run
from tvm_eff.errors import UsageError


def main(argv: list[str] | None = None) -> int:
    """Check the model that the command line names."""
    return run(_main, argv)


def _main(argv: list[str] | None) -> None:
    arguments = _parser().parse_args(argv)
    target = targets.load(arguments.target)
    triple, cpu = target.tvm["mtriple"], target.tvm["mcpu"]
    if not triple.startswith("aarch64"):
        raise UsageError(
            f"--target {arguments.target} is {triple}, and only loops of 64-bit Arm are known"
        )
    models.spec(arguments.model)
    run_now = results_file.begin(__file__, argv)
    about = {"target": target.name, "model": arguments.model, "dtype": arguments.dtype}
    about |= {"cpu": cpu, "mca": version()}
    rows = []
    logs = arguments.logs or api.default_logs(target)
    for kernel in kernels(arguments.model, target, logs, arguments.dtype):
        print(kernel.label, file=sys.stderr, flush=True)
        rows.append(row_of(kernel, triple, cpu))
    result = run_now.with_data({**about, "rows": rows})
    print(markdown(result))
    if arguments.json is not None:
        result.write(arguments.json)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", default="rasp4", help="default: %(default)s")
    parser.add_argument("--model", default="squeezenet1_1", help="default: %(default)s")
    parser.add_argument(
        "--dtype", choices=("float32", "int8"), default="float32", help="default: %(default)s"
    )
    parser.add_argument("--logs", type=Path, help="the folder of records (default: tune.py's)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
