"""The front door: PyTorch model in, validated library for a target out."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from tvm_eff import device as devices
from tvm_eff import models, passes, paths, targets, tune
from tvm_eff.codegen import runner
from tvm_eff.deploy.bundle import Bundle
from tvm_eff.deploy.manifest import Format, PackWeights, RuntimeChoice
from tvm_eff.deploy.measured import build_time
from tvm_eff.deploy.source import Precision
from tvm_eff.device import Device, SelectedDevice
from tvm_eff.driver import Compilation
from tvm_eff.errors import (
    NoneType,
    RecordError,
    UsageError,
    nearest,
    require_kind,
    require_positive,
)
from tvm_eff.models import Network
from tvm_eff.passes import pipeline
from tvm_eff.progress import CountingProgress, Progress, progress_of
from tvm_eff.quantize import Metric
from tvm_eff.targets import Target

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

_MAX_DROP = 0.01
"""What ``auto`` may lose by default."""


def compile(
    model: nn.Module | ExportedProgram | Network | str,
    inputs: models.Tensors | None = None,
    *,
    target: str | Path | Target = "host",
    dtype: str = "float32",
    runtime: RuntimeChoice = "auto",
    format: Format = "so",
    pack_weights: PackWeights = "build",
    input_shapes: Sequence[Sequence[int]] = (),
    input_dtypes: Sequence[str] = (),
    weights: str | Path | None = None,
    width: float | None = None,
    resolution: int | None = None,
    preprocess: str | models.Preprocessing | None = None,
    state: bool = False,
    name: str | None = None,
    rpc: str | None = None,
    key: str = "",
    device: Device | None = None,
    logs: str | Path | None = None,
    output: str | Path = "dist",
    validation_inputs: int = 3,
    validation_data: models.Samples | None = None,
    calibrate: models.Samples | None = None,
    max_drop: float | None = None,
    metric: Metric | None = None,
    trials: int | None = None,
    workers: int | None = None,
    budget: float = math.inf,
    until_roofline: float = math.inf,
    measure: bool = True,
    retry_failed: bool = False,
    size: int | None = None,
    proof: bool = True,
    dump_ir: str | Path | None = None,
    progress: Progress | Literal["rich"] | None = None,
) -> Bundle:
    """Compile a model for a target: trace, import, tune, build, run, validate, and write.

    Parameters
    ----------
    model
        A module, with example `inputs`; a program of ``torch.export``; or what the command
        line takes: a name of the zoo, ``FILE.py:NAME``, ``PACKAGE.MODULE:NAME``, a ``.pt2``
        file.
    inputs
        Example tensors of a module: their shapes and dtypes become the library's, and they
        are the first inputs that it is validated on.
    target
        A target, its name, or the path of its file.
    dtype
        What the network computes in, ``float32``, ``float16`` or ``int8``; its inputs and outputs
        stay. For int8 it is quantized: see :mod:`tvm_eff.quantize`. With ``auto`` that is chosen
        layer by layer.
    runtime
        What runs the library: with ``native`` its own code, which needs nothing but libc and has
        a C interface; or TVM's ``virtual-machine``. With ``auto``, that is for networks that are
        no straight line of kernel calls, and for GPUs.
    format
        What a native library is made as: ``so``, a shared library, which Python loads and every
        bundle has; and beside it with ``a`` a static archive, with ``exe`` a program that checks
        and times the network.
    pack_weights
        Where weights that are larger as kernels read them, such as Winograd's, are made: in the
        ``build``, or at ``load`` from the model's own, which makes the library smaller, its loading
        longer, and its arena larger.
    input_shapes, input_dtypes, weights, width, resolution
        Of a model that is named: see :func:`tvm_eff.models.load`.
    preprocess
        What of an image's preparation the library does: see :class:`tvm_eff.models.Preprocessing`.
    state
        Whether buffers that the model writes become inputs and outputs, the last ones, named
        ``state_`` and the buffer; the golden inputs hold the values to start from.
    name
        What the bundle calls the model; its class' or its own name by default.
    rpc, key
        ``HOST:PORT`` of a board's RPC server and its key. Without it the host measures
        itself, a board is emulated, and a GPU's kernels run on this machine's OpenCL device.
    device
        A device of your own to measure on, not yet open, in the place of these.
    logs
        The folder of records; ``tuning_logs`` by default.
    output
        The folder bundles are written to.
    validation_inputs
        How many inputs the library is validated on, besides `inputs`: noise, then what images
        and padding are, then the limits of narrow integers, then noise again.
    validation_data
        Data of your own to validate it on as well: see :func:`tvm_eff.models.read_samples`. With
        labels, the manifest has the share that the library and PyTorch get right.
    calibrate
        Data that int8 takes the ranges of activations from, likewise; random inputs without it.
        ``auto`` measures its loss on it.
    max_drop
        How much ``auto`` may lose, as a share of 1; 0.01 by default.
    metric
        What it must not lose of: ``FILE.py:FUNCTION`` or a function of all outputs and labels,
        higher is better. Without, see :func:`tvm_eff.quantize.criterion.criterion_of`.
    trials, workers, budget, until_roofline, measure, retry_failed
        How much to try: see :class:`tvm_eff.tune.TuneOptions`.
    size
        The bytes that the library may have: where transformed weights would make it larger, slower
        kernels that take them as they are are chosen, so that it is the fastest within. None for
        any size.
    proof
        Whether each operator as imported is compared with PyTorch's before anything is tuned.
    dump_ir
        A new folder for the module after each pass.
    progress
        ``"rich"`` shows it on standard error; or what events are told to.

    Returns
    -------
    Bundle
        What was written; its ``report`` says what was found on the way.

    Raises
    ------
    Error
        Anything a user can cause or meet: see :mod:`tvm_eff.errors`.
    """
    _require_kinds(
        {"target": target, "output": output, "dtype": dtype, "key": key},
        {"logs": logs, "dump_ir": dump_ir, "weights": weights, "rpc": rpc, "name": name},
        {"trials": trials, "workers": workers, "resolution": resolution, "size": size},
        {"budget": budget, "until_roofline": until_roofline},
    )
    _require_others(width, device, {"input_shapes": input_shapes, "input_dtypes": input_dtypes})
    require_positive(trials=trials, workers=workers, size=size)
    tune.leave_script()
    chosen = target if isinstance(target, Target) else targets.load(target)
    options = tune.TuneOptions(
        trials=trials,
        workers=workers,
        budget=budget,
        until_roofline=until_roofline,
        measure=measure,
        retry_failed=retry_failed,
    )
    with ExitStack() as stack:
        shown = progress_of(progress, stack)
        examples = models.example_arrays(inputs)
        network = models.network_of(
            model,
            examples,
            name,
            input_shapes=input_shapes,
            input_dtypes=input_dtypes,
            weights=weights,
            width=width,
            resolution=resolution,
            preprocess=preprocess,
            state=bool(state),
        )
        _require_validation(examples, validation_inputs)
        stack.enter_context(models.inference_mode(network))
        # Only LLVM knows whether the processor exists; ask before anything is written or built.
        chosen.tvm_target()
        precision = _precision(chosen, dtype, calibrate, max_drop, metric)
        _require_runtime(chosen, runtime, format, pack_weights)
        selected = _select(chosen, rpc, key, device, shown, dtype)
        stack.enter_context(pipeline.dumping(None if dump_ir is None else Path(dump_ir)))
        compilation = Compilation(
            network=network,
            target=chosen,
            precision=precision,
            selected=selected,
            logs=default_logs(chosen) if logs is None else Path(logs),
            folder=Path(output) / _bundle_name(network, chosen, dtype),
            tuning=options,
            proof=bool(proof),
            runtime=runtime,
            form=format,
            pack_at_load=pack_weights == "load",
            data=validation_data,
            size=size,
            day=build_time().date(),
            progress=CountingProgress(shown),
        )
        return compilation.run(examples, validation_inputs)


def default_logs(target: Target) -> Path:
    """The user's folder of records; an installed package's own records are copied there first."""
    logs = paths.tuning_logs()
    shipped = paths.data_folder("tuning_logs") / target.log_name
    own = logs / target.log_name
    if shipped.is_dir() and not own.exists():
        try:
            shutil.copytree(shipped, own)
        except OSError as error:
            raise RecordError(
                f"cannot write the records to {own}: {error}; name a folder with --logs FOLDER"
            ) from error
    return logs


def _require_kinds(
    texts: Mapping[str, object],
    optional_texts: Mapping[str, object],
    optional_counts: Mapping[str, object],
    numbers: Mapping[str, object],
) -> None:
    paths_too: dict[str, tuple[type, ...]] = {
        "target": (os.PathLike, Target),
        **dict.fromkeys(("output", "logs", "dump_ir", "weights"), (os.PathLike,)),
    }
    for group, none in ((texts, ()), (optional_texts, (NoneType,))):
        for what, value in group.items():
            require_kind(what, value, str, *paths_too.get(what, ()), *none)
    for what, value in optional_counts.items():
        require_kind(what, value, Integral, NoneType)
    for what, value in numbers.items():
        require_kind(what, value, Real)


def _require_others(width: object, device: object, lists: Mapping[str, object]) -> None:
    require_kind("width", width, Real, NoneType)
    require_kind("device", device, Device, NoneType)
    for what, listed in lists.items():
        require_kind(what, listed, list, tuple)


def _bundle_name(network: Network, target: Target, dtype: str) -> str:
    suffix = [] if dtype == "float32" else [dtype]
    return "-".join([network.name, target.name, *suffix])


def _require_validation(examples: Sequence[np.ndarray] | None, random_inputs: int) -> None:
    require_kind("validation_inputs", random_inputs, Integral)
    if random_inputs < 0 or (random_inputs == 0 and examples is None):
        raise UsageError(
            f"with {random_inputs} validation inputs and no examples nothing would be compared "
            "with PyTorch; leave validation_inputs out"
        )


def _precision(
    target: Target,
    dtype: str,
    calibrate: models.Samples | None,
    max_drop: float | None,
    metric: Metric | None,
) -> Precision:
    passes.require_dtype(target, "int8" if dtype == "auto" else dtype)
    if calibrate is not None and dtype not in ("int8", "auto"):
        raise UsageError(
            f"--calibrate is for --dtype int8 and auto, and nothing is quantized to {dtype}"
        )
    require_kind("max_drop", max_drop, Real, NoneType)
    if metric is not None and not callable(metric):
        require_kind("the metric", metric, str)
    for option, given in (("--max-drop", max_drop), ("--metric", metric)):
        if given is not None and dtype != "auto":
            raise UsageError(
                f"{option} is for --dtype auto, which chooses what is lost; with {dtype} nothing "
                f"is chosen: leave {option} out"
            )
    if dtype == "auto" and calibrate is None:
        raise UsageError(
            "--dtype auto measures on data what each layer loses; give inputs like those in use: "
            "--calibrate DATA"
        )
    allowed = _MAX_DROP if max_drop is None else float(max_drop)
    if not 0 <= allowed <= 1:
        raise UsageError(
            f"a loss of {allowed:g} cannot be allowed; give a share of 1, such as 0.01"
        )
    return Precision(dtype, calibrate, allowed, metric)


def _require_runtime(target: Target, runtime: str, form: str, pack_weights: str) -> None:
    for what, word, kind in (
        ("runtime", runtime, RuntimeChoice),
        ("place to pack weights", pack_weights, PackWeights),
    ):
        require_kind(what, word, str)
        if word not in get_args(kind):
            raise UsageError(f"unknown {what} '{word}'{nearest(word, get_args(kind))}")
    if pack_weights == "load" and (runtime == "virtual-machine" or target.gpu is not None):
        raise UsageError(
            "TVM's virtual machine packs no weights when it loads them; leave --pack-weights out"
        )
    if runtime == "native" and target.gpu is not None:
        raise UsageError(
            f"{target.name} runs kernels on the GPU, which needs TVM's virtual machine; leave "
            "--runtime out"
        )
    require_kind("format", form, str)
    if form not in get_args(Format):
        raise UsageError(f"unknown format '{form}'{nearest(form, get_args(Format))}")
    if form != "so" and (runtime == "virtual-machine" or target.gpu is not None):
        raise UsageError(
            f"'{form}' cannot be made of what TVM's virtual machine runs; leave --format out"
        )
    if form != "so" and not runner.runs_on(target):
        raise UsageError(
            f"'{form}' is for Linux, which {target.name} does not run; leave --format out"
        )


def _select(
    target: Target,
    rpc: str | None,
    key: str,
    device: Device | None,
    progress: Progress,
    dtype: str,
) -> SelectedDevice:
    if device is None:
        return devices.select(target, rpc, key, progress, dtype)
    if rpc is not None:
        raise UsageError("a device and the address of an RPC server are two places; give one")
    return SelectedDevice(device, target, "opening the device")
