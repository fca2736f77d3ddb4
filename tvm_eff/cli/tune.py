"""``tune``: from a model and a target to a validated library."""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_eff.cli.arguments import byte_count, drop, positive, seconds, share
from tvm_eff.cli.board_options import add_key_options, key_of
from tvm_eff.cli.model_options import MODEL_HELP, add_model_options, model_options
from tvm_eff.cli.run import leave, run

if TYPE_CHECKING:
    from tvm_eff.deploy.bundle import Bundle
    from tvm_eff.deploy.report import CompileReport

DESCRIPTION = """\
Trace a PyTorch model, schedule it for a target, cross-compile it, run it, check
it against PyTorch, and write the library. Without --rpc, the host measures
itself; a board is emulated, and figures are executed instructions, never a
latency; and a GPU's kernels run on this machine's OpenCL device. Interrupted
with Ctrl-C, the same command goes on where it stopped."""


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, build, and print the summary."""
    return run(_main, argv)


def _main(argv: list[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    import tvm_eff
    from tvm_eff.cli import interrupt
    from tvm_eff.cli.summary import print_summary
    from tvm_eff.progress import RichProgress
    from tvm_eff.scratch import private_temporary_folder

    with (
        private_temporary_folder(),
        RichProgress(on_event=interrupt.check, budget=arguments.budget) as progress,
    ):
        bundle = tvm_eff.compile(
            arguments.model,
            target=arguments.target,
            dtype=arguments.dtype,
            runtime=arguments.runtime,
            format=arguments.format,
            pack_weights=arguments.pack_weights,
            **model_options(arguments),
            preprocess=arguments.preprocess,
            state=arguments.state,
            rpc=arguments.rpc,
            key=key_of(arguments),
            logs=arguments.logs,
            output=arguments.output,
            validation_inputs=arguments.inputs,
            validation_data=arguments.validate,
            calibrate=arguments.calibrate,
            max_drop=arguments.max_drop,
            metric=arguments.metric,
            trials=arguments.trials,
            workers=arguments.workers,
            budget=arguments.budget,
            until_roofline=arguments.until_roofline,
            measure=not arguments.no_measure,
            retry_failed=arguments.retry_failed,
            size=arguments.size,
            proof=not arguments.no_proof,
            dump_ir=arguments.dump_ir,
            progress=progress,
        )
    report = bundle.report
    assert report is not None, "it was compiled just now"
    print_summary(bundle, report, _typed(argv))
    if arguments.json:
        print(json.dumps(_as_json(bundle, report)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tvm-eff tune", description=DESCRIPTION)
    parser.add_argument(
        "--target", required=True, help="a target's name, or the path of its .toml file"
    )
    parser.add_argument("--model", required=True, help=MODEL_HELP)
    parser.add_argument(
        "--rpc", metavar="HOST:PORT", help="measure on a real board's RPC server, in seconds"
    )
    add_key_options(parser)
    _add_precision_options(parser)
    parser.add_argument(
        "--inputs",
        type=positive,
        default=3,
        help="random inputs to validate on (default: %(default)s)",
    )
    parser.add_argument(
        "--validate",
        metavar="DATA",
        help="compare with PyTorch on data of your own as well: a folder of images (sub-folders "
        "are classes), an .npz or .npy file, or FILE.py:FUNCTION that yields inputs",
    )
    parser.add_argument(
        "--state",
        action="store_true",
        help="make inputs and outputs of the buffers that the model writes from call to call",
    )
    parser.add_argument(
        "--preprocess",
        metavar="mean=...,std=...,layout=NHWC,dtype=uint8",
        help="prepare the image within the library: (image * scale - mean) / std, where scale is "
        "1/255 for bytes; the library then takes the image as it comes",
    )
    _add_library_options(parser)
    _add_search_options(parser)
    _add_files(parser)
    add_model_options(parser)
    return parser


def _add_precision_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the precision")
    group.add_argument(
        "--dtype",
        choices=("float32", "float16", "int8", "auto"),
        default="float32",
        help="what the network computes in: float16 on GPUs and on Armv8.2, int8 on processors, or "
        "auto, each layer in the one that costs least within --max-drop; its inputs and outputs "
        "stay float32 (default: %(default)s)",
    )
    group.add_argument(
        "--calibrate",
        metavar="DATA",
        help="what int8 takes the ranges of activations from, as for --validate; some hundred "
        "inputs like those in use (default: random ones, whose accuracy means nothing)",
    )
    group.add_argument(
        "--max-drop",
        type=drop,
        metavar="SHARE",
        help="how much auto may lose on that data, such as 1%% or 0.01: of right classes where it "
        "has labels, else of float32's classes, else of the outputs by noise (default: 1%%)",
    )
    group.add_argument(
        "--metric",
        metavar="FILE.py:FUNCTION",
        help="what auto must not lose of: a function of all outputs and labels, higher is better",
    )


def _add_library_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the library")
    group.add_argument(
        "--runtime",
        choices=("auto", "native", "virtual-machine"),
        default="auto",
        help="what runs the library: its own code, which needs nothing but libc and has a C "
        "interface, or TVM's virtual machine, which GPUs need and networks that branch "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--pack-weights",
        choices=("build", "load"),
        default="build",
        help="where weights that are larger as kernels read them, such as Winograd's, are made: in "
        "the build, or when the library is loaded, which makes it smaller and loading longer "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--format",
        choices=("so", "a", "exe"),
        default="so",
        help="what a native library is made as: a shared library, which every bundle has; beside "
        "it a static archive; or a program that checks and times the network "
        "(default: %(default)s)",
    )


def _add_search_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the search")
    group.add_argument(
        "--trials",
        type=positive,
        help="candidates to measure of each kernel, at most "
        "(default: 16 in seconds, 8 in instructions or on an OpenCL device in software)",
    )
    group.add_argument(
        "--budget",
        type=seconds,
        default=math.inf,
        metavar="TIME",
        help="start no more measurements after this time, such as 90s; every kernel gets its "
        "first few candidates nevertheless (default: no limit)",
    )
    group.add_argument(
        "--until-roofline",
        type=share,
        default=math.inf,
        metavar="SHARE",
        help="stop at a kernel that reaches this share of the processor's peak of "
        "multiply-adds, such as 0.95, which is measured where time is (default: never)",
    )
    group.add_argument(
        "--size",
        type=byte_count,
        metavar="SIZE",
        help="the most that the library may have, such as 8MB: slower kernels whose weights are "
        "not transformed are chosen where they must be (default: any size)",
    )
    group.add_argument(
        "--no-measure",
        action="store_true",
        help="build at once, with what is on record of any machine",
    )
    group.add_argument(
        "--retry-failed",
        action="store_true",
        help="measure candidates again that failed before",
    )
    group.add_argument(
        "--no-proof",
        action="store_true",
        help="do not compare each operator as imported with PyTorch's before tuning",
    )
    group.add_argument("--workers", type=positive, help="builder processes (default: one a core)")


def _typed(argv: list[str] | None) -> str:
    """Return the command line as it can be typed again to tune elsewhere."""
    script = "python scripts/tune.py" if Path(sys.argv[0]).name == "tune.py" else "tvm-eff tune"
    given = sys.argv[1:] if argv is None else argv
    return " ".join([script, *map(shlex.quote, _without(given, ("--json", "--no-measure")))])


def _without(words: Sequence[str], flags: Sequence[str]) -> list[str]:
    """Return the words without flags, and without what names a board."""
    kept, skip = [], False
    for word in words:
        option = word.partition("=")[0]
        if skip or word in flags:
            skip = False
        elif option in ("--rpc", "--key", "--key-file"):
            skip = "=" not in word
        else:
            kept.append(word)
    return kept


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--logs", type=Path, help="the folder of records (default: tuning_logs)")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("dist"),
        help="the folder to write the bundle in (default: %(default)s)",
    )
    parser.add_argument(
        "--dump-ir",
        type=Path,
        metavar="FOLDER",
        help="write the module after each pass into a new folder",
    )
    parser.add_argument(
        "--json", action="store_true", help="end with one line of JSON that says what came out"
    )


def _as_json(bundle: Bundle, report: CompileReport) -> dict[str, object]:
    measurement = report.measurement
    in_seconds = measurement.unit == "seconds"
    return {
        "bundle": str(bundle.folder),
        "latency_ms" if in_seconds else "instructions": (
            measurement.median * 1e3 if in_seconds else round(measurement.median)
        ),
        "kernels_before": report.kernels_before * (1e3 if in_seconds else 1),
        "where": report.where,
        "largest_error": bundle.error,
        "pytorch_error": max(bundle.manifest.validation.reference_errors, default=None),
        "candidates": report.measured,
        "seconds": round(report.seconds, 1),
    }


if __name__ == "__main__":
    leave(main())
