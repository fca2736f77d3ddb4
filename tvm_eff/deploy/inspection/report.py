"""An inspection as a page of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tvm_eff.deploy.inspection.growth import in_words
from tvm_eff.deploy.inspection.inspect import Inspection
from tvm_eff.deploy.manifest import Manifest, WeightInfo

_SHOWN_WEIGHTS = 20
_SMALL_SECTION = 1000


def text(found: Inspection) -> str:
    """Return an inspection as lines for people."""
    manifest = found.bundle.manifest
    lines = [
        f"{manifest.model} for {manifest.target.name} ({manifest.target.triple}); runtime "
        f"{manifest.runtime}; bundle format {manifest.format}",
        "",
        _row("inputs", ", ".join(map(str, manifest.inputs))),
        _row("outputs", ", ".join(map(str, manifest.outputs))),
        *_sizes(found),
        *_needs(found),
        *_memory(manifest),
        *_checked(found),
        _row("made with", _versions(manifest)),
        *(_row("problem", each) for each in found.problems),
        *_weights(manifest.weights),
        *_kernels(manifest),
    ]
    return "\n".join(lines)


def _row(name: str, what: str) -> str:
    return f"{name:13}{what}"


def _size(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def _sizes(found: Inspection) -> Iterator[str]:
    bundle = found.bundle
    files = ", ".join(f"{name} {_size(size)}" for name, size in bundle.manifest.sizes.items())
    yield _row("size", f"{_size(bundle.size)}: {files}")
    weights = bundle.manifest.weights
    if weights:
        yield _row("weights", in_words(weights))
    else:
        yield _row("weights", "not known: the bundle is of an earlier tvm_eff, build it again")
    if found.library is None:
        yield _row("library", "no ELF file: its sections and its code are not looked at")
        return
    sections = [each for each in found.library.sections if each.bytes >= _SMALL_SECTION]
    sections.sort(key=lambda each: -each.bytes)
    listed = ", ".join(f"{each.name} {_size(each.bytes)}" for each in sections)
    yield _row("library", f"{_size(bundle.library.stat().st_size)}: {listed}")
    yield _row("code", f"{_size(found.library.code_bytes)} for {found.library.architecture}")


def _needs(found: Inspection) -> Iterator[str]:
    target = found.bundle.manifest.target
    if found.library is not None:
        libraries = ", ".join(found.library.needed) or "no library"
        newest = f"; glibc {found.library.glibc}" if found.library.glibc else ""
        yield _row("needs", f"{libraries}{newest} (linked for glibc {target.glibc})")
    if found.bundle.manifest.runtime == "virtual-machine":
        yield _row("", f"TVM's virtual machine, {found.bundle.manifest.versions.tvm}")
    yield _row("asks for", ", ".join(target.cpu_features) or "nothing more of the processor")
    if found.instruction_sets is not None:
        sets = ", ".join(f"{name} ({n})" for name, n in found.instruction_sets.items())
        yield _row("code has", sets or "nothing that not every such processor has")
    if target.opencl is not None:
        needed = target.opencl
        yield _row(
            "GPU",
            f"OpenCL {needed.version}, {', '.join(needed.extensions) or 'no extension'}, "
            f"work-groups of {needed.work_group}, {_size(needed.local_memory)} local memory",
        )


def _memory(manifest: Manifest) -> Iterator[str]:
    memory = manifest.memory
    if memory is None:
        return
    over = memory.arena - memory.least
    near = f"{_size(over)} more than the least" if over else "which is the least possible"
    yield _row("arena", f"{_size(memory.arena)}, {near}")


def _checked(found: Inspection) -> Iterator[str]:
    done = found.bundle.manifest.validation
    pytorch = max(done.reference_errors, default=None)
    own = "" if pytorch is None else f"; PyTorch's own {pytorch:.1e}"
    yield _row(
        "validated",
        f"{done.inputs} inputs on {done.where}: error at most {done.largest_error:.1e} of the "
        f"spread, {done.tolerance:.1e} allowed{own}",
    )
    if done.data is not None:
        yield _row("", f"{done.data.samples} of {done.data.source}: {done.data.largest_error:.1e}")
    cost = found.measurement
    if cost is not None:
        value, unit = (
            (cost.median * 1e3, "ms") if cost.unit == "seconds" else (cost.median / 1e6, "M")
        )
        words = unit if unit == "ms" else f"{unit} instructions, not a latency,"
        yield _row("measured", f"{value:.3f} {words} on {cost.where}, {cost.date}")


def _versions(manifest: Manifest) -> str:
    made = manifest.versions
    return f"tvm_eff {made.tvm_eff}, TVM {made.tvm}, tvm-ffi {made.tvm_ffi}, torch {made.torch}"


def _weights(weights: Sequence[WeightInfo]) -> Iterator[str]:
    if not weights:
        return
    yield "\n    library       model  by                    weight"
    largest = sorted(weights, key=lambda each: -each.bytes)
    for each in largest[:_SHOWN_WEIGHTS]:
        yield (
            f"{_size(each.bytes):>11} {_size(each.model_bytes):>11}  {each.algorithm:20}  "
            f"{', '.join(each.parameters) or 'a constant'}"
        )
    rest = largest[_SHOWN_WEIGHTS:]
    if rest:
        size, model = (sum(getattr(r, name) for r in rest) for name in ("bytes", "model_bytes"))
        yield f"{_size(size):>11} {_size(model):>11}  {'':20}  {len(rest)} others (--json has all)"


def _kernels(manifest: Manifest) -> Iterator[str]:
    if not manifest.kernels:
        return
    width = max(map(len, manifest.kernels))
    yield f"\n{'kernel':{width}}  scheduled by"
    for name, schedule in manifest.kernels.items():
        yield f"{name:{width}}  {schedule}"
