"""The first kernel of a built library whose result differs from PyTorch's, on a device.

The library's own program is run here, kernel by kernel
(:mod:`tvm_eff.deploy.bisect.executable`), with the constants that the file carries; each kernel
runs on the device, fed with what a reference computed before it
(:mod:`tvm_eff.deploy.bisect.reference`), so that errors do not add up: the first that differs is
the culprit. The reference shares neither the schedules nor the packed weights, and where it is not
PyTorch's itself, a kernel is wrong as lowered (:mod:`tvm_eff.deploy.bisect.lowering`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tvm_eff import models, passes, schedules, targets
from tvm_eff.deploy import machine
from tvm_eff.deploy.accuracy import Case
from tvm_eff.deploy.bisect import lowering, packed, reproduction
from tvm_eff.deploy.bisect.kernel_walk import (
    OTHER_BUILD,
    KernelWalk,
    WrongCall,
    is_of,
    tolerance_of,
)
from tvm_eff.deploy.bisect.library_program import LibraryProgram, program_of
from tvm_eff.deploy.bisect.origins import Origins
from tvm_eff.deploy.bisect.place import Place, choose
from tvm_eff.deploy.bisect.reference import KernelCall, Reference, run_reference
from tvm_eff.deploy.bisect.report import Bisection, Finding
from tvm_eff.deploy.bundle import Bundle, Golden, read
from tvm_eff.deploy.source import same_source
from tvm_eff.deploy.validate import compare
from tvm_eff.device import Device
from tvm_eff.errors import (
    BundleError,
    ExecutionError,
    ModelError,
    NoneType,
    SpaceError,
    UsageError,
    ValidationError,
    require_kind,
)
from tvm_eff.models import Network, Program
from tvm_eff.models.state import PREFIX as STATE
from tvm_eff.passes import RelaxNetwork
from tvm_eff.targets import Target
from tvm_eff.tensors import TOLERANCE

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram


@dataclass(frozen=True)
class Options:
    """Which library, which network it was built from, and where to run it.

    Attributes
    ----------
    bundle
        The bundle's folder.
    on
        ``host``, ``emulated``, or ``HOST:PORT`` of a board's RPC server; by default this
        machine if the library runs on it, or else the emulated board.
    key
        The server's key.
    model, weights, preprocess, state
        What the bundle was built from, as for :func:`tvm_eff.compile`. A network of the zoo
        with its own weights is known by the bundle's name.
    calibrate
        The data that it was quantized on.
    target
        What it was built for, its name or file; by default what the bundle says.
    output
        A folder for the reproducing script; the bundle's name with ``-bisect`` by default.
    """

    bundle: Path
    on: str | None = None
    key: str = ""
    model: nn.Module | ExportedProgram | Network | str | None = None
    weights: str | Path | None = None
    preprocess: str | models.Preprocessing | None = None
    state: bool = False
    calibrate: models.Samples | None = None
    target: str | Path | Target | None = None
    output: str | Path | None = None


def bisect(options: Options) -> Bisection:
    """Find the first kernel of a library that computes something else than PyTorch.

    The golden inputs are what is compared on.

    Returns
    -------
    Bisection
        What was found; a script that shows a wrong kernel is written.

    Raises
    ------
    BundleError, UsageError
        The bundle is damaged, runs on a GPU, or was built from another network, by other
        passes or for another target than those given.
    ModelError, TargetError
        The network cannot be built or imported, or its target is not known.
    DeviceError, SetupError
        The device cannot be reached, or cannot run the library.
    """
    require_kind("on", options.on, str, NoneType)
    require_kind("key", options.key, str)
    require_kind("output", options.output, str, os.PathLike, NoneType)
    bundle = read(options.bundle)
    folder = Path(options.output or f"{bundle.folder}-bisect")
    reproduction.require_replaceable(folder)
    if bundle.manifest.target.opencl is not None:
        raise BundleError(
            f"{bundle.folder} runs its kernels on a GPU, which bisect cannot run one by one; "
            "build it for a processor, such as --target host, to find what the two share"
        )
    place = choose(bundle, options.on, options.key)
    target = _target(options, bundle)
    network = _network(options, bundle)
    with models.inference_mode(network):
        comparison = _prepared(bundle, network, target, place, options.calibrate)
    return comparison.run(folder)


def _prepared(
    bundle: Bundle, network: Network, target: Target, place: Place, data: models.Samples | None
) -> _Comparison:
    """Build what the library is compared with."""
    source = same_source(models.trace(network), target, data, bundle.manifest.validation)
    case = _golden_case(bundle, source.program)
    _require_same(bundle, source.program, case)
    lowered = passes.lower(source.imported, target, source.dtype)
    reference = run_reference(lowered, case.inputs)
    origins = Origins(source.core, case.inputs)
    wrong = None
    if not _are_right(reference.outputs, case, source.tolerance):
        wrong = lowering.find_wrong(reference, origins)
        if wrong is None:
            raise ValidationError(
                f"{network.name} is wrong before any schedule, and no kernel alone: report it "
                "with the model"
            )
        calls = [*reference.calls[: wrong.number], wrong.call]
        reference = Reference(calls, reference.outputs)
    library = program_of(bundle)
    if wrong is None:
        _require_same_kernels(bundle, library, reference)
    return _Comparison(
        bundle=bundle,
        target=target,
        place=place,
        lowered=lowered,
        program=library,
        reference=reference,
        origins=origins,
        wrong=wrong,
        case=case,
    )


def _golden_case(bundle: Bundle, program: Program) -> Case:
    golden = bundle.golden()
    inputs, outputs = list(golden.inputs.values()), list(golden.outputs.values())
    is_quantized = bundle.manifest.validation.quantization is not None
    return Case(
        inputs,
        outputs,
        recorded_errors=bundle.manifest.validation.reference_errors,
        by_chance=partial(program.moved_by_chance, inputs, outputs) if is_quantized else None,
    )


def _are_right(outputs: Sequence[np.ndarray], case: Case, tolerance: float) -> bool:
    try:
        compare(outputs, case, tolerance, "the network as lowered")
    except ValidationError:
        return False
    return True


@dataclass(frozen=True)
class _Comparison:
    """A library, and all that it is compared with."""

    bundle: Bundle
    target: Target
    place: Place
    lowered: RelaxNetwork
    program: LibraryProgram
    reference: Reference
    origins: Origins
    wrong: lowering.WrongKernel | None
    case: Case

    def run(self, folder: Path) -> Bisection:
        """Run the kernels one by one, until one is wrong."""
        made_for = self.bundle.manifest.target
        constants = packed.packed_constants(self.lowered, self.bundle.manifest.kernels, self.target)
        with self.place.device as device:
            machine.require_suitable(device, made_for.name, made_for.arch, made_for.cpu_features)
            whole = self._whole(device)
            walk = KernelWalk(self.bundle.library, self.reference.calls, constants, device)
            self.program.walk(self.case.inputs, walk.prepare, walk.execute)
            if walk.found is None:
                walk.skip_views()
            where = device.where
        found = None if walk.found is None else self._finding(walk.found, folder)
        if found is None and self.wrong is not None:
            raise BundleError(
                f"{self.bundle.folder} is right up to {self.wrong.call.task.name}, which this "
                "tvm_eff itself lowers wrongly; bisect with the tvm_eff that built it"
            )
        return Bisection(
            bundle=self.bundle,
            where=where,
            compared=walk.number,
            kernels=len(self.reference.calls),
            finding=found,
            whole=whole if found is None else None,
        )

    def _whole(self, device: Device) -> str | None:
        """Run the library as a whole, which stays on the device; return what is wrong with it."""
        tolerance = self.bundle.manifest.validation.tolerance
        try:
            outputs, _ = device.run(self.bundle.library, self.case.inputs, keep=True)
            compare(outputs, self.case, tolerance, str(self.bundle.library))
        except (ExecutionError, ValidationError) as error:
            return str(error)
        return None

    def _finding(self, wrong: WrongCall, folder: Path) -> Finding:
        call = self.reference.calls[wrong.number]
        origin = self.wrong.origin if self._is_wrong_as_lowered(wrong) else None  # type: ignore[union-attr]
        schedule = self.bundle.manifest.kernels.get(call.task.name)
        finding = Finding(
            number=wrong.number,
            kernel=wrong.kernel,
            lowered=call.task.name,
            label=call.task.label,
            operators=tuple(lowering.operators_of(call, self.origins, origin)),
            schedule=None if schedule is None else str(schedule),
            difference=wrong.difference,
            failure=wrong.failure,
            cause=self._cause(wrong),
            script=folder / reproduction.SCRIPT,
        )
        reproduction.Reproduction(
            title=f"The kernel {wrong.kernel} of {self.bundle.manifest.model} "
            f"for {self.target.name} is wrong.",
            library=self.bundle.library,
            kernel=wrong.kernel,
            inputs=wrong.inputs,
            outputs=call.outputs,
            written=call.written,
            constants=wrong.constants or {},
            tolerance=tolerance_of(call),
            device=self.place.expression,
            key=self.place.takes_key,
            schedule=self._schedule_text(call, finding),
        ).write(folder)
        return finding

    def _is_wrong_as_lowered(self, wrong: WrongCall) -> bool:
        return self.wrong is not None and wrong.number == self.wrong.number

    def _cause(self, wrong: WrongCall) -> str:
        name = self.reference.calls[wrong.number].task.name
        if self._is_wrong_as_lowered(wrong):
            return "it is wrong as lowered, before any schedule: a pass on Relax"
        if wrong.altered is not None:
            return (
                f"its weights in the library are not the model's: {wrong.altered}; they were "
                "damaged, or packed wrongly"
            )
        if not is_of(wrong.kernel, name):
            return f"other passes built it: this tvm_eff lowers the same place to {name}"
        right = "without a schedule it is right"
        if wrong.constants is None:
            return f"{right}: its schedule, what compiles it, or its weights in the library"
        return f"{right}, and so are its weights: its schedule, or what compiles it"

    def _schedule_text(self, call: KernelCall, finding: Finding) -> str:
        """The kernel's candidate, and the trace that it makes of the kernel as lowered."""
        known = self.bundle.manifest.kernels.get(call.task.name)
        if known is None:
            return f"{finding.lowered}: the bundle does not say what it is scheduled by\n"
        try:
            made = schedules.apply(call.task.func, packed.candidate_of(known), self.target)
        except SpaceError as error:
            return f"{finding.lowered}: {known}\n\n{error}\n"
        return f"{finding.lowered}: {known}\n\n{made.trace}\n"


def _target(options: Options, bundle: Bundle) -> Target:
    given = options.target
    if isinstance(given, Target):
        return given
    name = bundle.manifest.target.name
    if given is None and name not in targets.names():
        raise UsageError(
            f"{bundle.folder} was built for {name}, a target of your own; give its file: "
            "--target FILE.toml"
        )
    return targets.load(name if given is None else given)


def _network(options: Options, bundle: Bundle) -> Network:
    golden, model = bundle.golden(), options.model
    name = bundle.manifest.model
    if model is None and not _is_of_the_zoo(name):
        raise UsageError(
            f"{bundle.folder} was built from {name}, which is no model of the zoo; give what it "
            "was built from: --model FILE.py:NAME, or a .pt2 file"
        )
    return models.network_of(
        name if model is None else model,
        _examples(golden, options.state),
        None,
        input_shapes=(),
        input_dtypes=(),
        weights=options.weights,
        width=None,
        resolution=None,
        preprocess=options.preprocess,
        state=options.state,
    )


def _examples(golden: Golden, state: bool) -> list[np.ndarray]:
    """The golden inputs that the model itself takes."""
    return [
        array for name, array in golden.inputs.items() if not (state and name.startswith(STATE))
    ]


def _is_of_the_zoo(name: str) -> bool:
    try:
        models.spec(name)
    except ModelError:
        return False
    return True


def _require_same(bundle: Bundle, program: Program, case: Case) -> None:
    """Refuse a network that does not compute the bundle's golden outputs in PyTorch."""
    try:
        found = program.run(case.inputs)
        compare(found, case, TOLERANCE, f"{program.network.name} in PyTorch")
    except ValidationError as error:
        raise ModelError(
            f"{bundle.folder} was built from another network, other weights or other calibration "
            f"data: {error}; give those with --model, --weights and --calibrate"
        ) from error


def _require_same_kernels(bundle: Bundle, program: LibraryProgram, reference: Reference) -> None:
    found = program.kernels
    wanted = [each.task.name for each in reference.calls]
    views = sum(each.is_reshape for each in reference.calls)
    if not len(wanted) - views <= len(found) <= len(wanted):
        raise BundleError(
            f"{bundle.folder} calls {len(found)} kernels, and {bundle.manifest.model} is lowered "
            f"to {len(wanted)}; {OTHER_BUILD} ({bundle.manifest.versions.tvm_eff})"
        )
