"""A bundle taken apart: its manifest, and what its library really is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from tvm_eff.deploy.bundle import Bundle
from tvm_eff.deploy.inspection import elf, instructions
from tvm_eff.deploy.inspection.elf import ElfFile
from tvm_eff.deploy.inspection.growth import growth
from tvm_eff.deploy.measured import MeasuredCost
from tvm_eff.errors import BuildError


@dataclass(frozen=True)
class Inspection:
    """What is in a bundle.

    Attributes
    ----------
    bundle
        It, with its manifest.
    library
        The library's file; None if it is not Linux's kind.
    instruction_sets
        How many instructions the library has of each set that not every processor of its
        architecture has, by the names of ``/proc/cpuinfo``; None if that cannot be told.
    measurement
        What an inference cost when it was made; None if that is not known.
    problems
        Where the library is not what the manifest says.
    """

    bundle: Bundle
    library: ElfFile | None
    instruction_sets: Mapping[str, int] | None = field(hash=False)
    measurement: MeasuredCost | None
    problems: tuple[str, ...]

    def text(self) -> str:
        """Return it for people."""
        from tvm_eff.deploy.inspection.report import text

        return text(self)

    def as_dict(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        manifest = self.bundle.manifest
        plain = msgspec.to_builtins(manifest, enc_hook=dict)
        weights = plain.pop("weights")
        return {
            "bundle": str(self.bundle.folder),
            "size": self.bundle.size,
            **plain,
            "weights": weights,
            "weight_bytes": sum(each.bytes for each in manifest.weights),
            "model_bytes": sum(each.model_bytes for each in manifest.weights),
            "added_bytes": growth(manifest.weights),
            "library": None if self.library is None else _plain(self.library),
            "instruction_sets": self.instruction_sets,
            "measurement": msgspec.to_builtins(self.measurement),
            "problems": list(self.problems),
        }


def inspect(bundle: Bundle) -> Inspection:
    """Take a bundle apart.

    Parameters
    ----------
    bundle
        As read; it need not be for this machine.

    Raises
    ------
    BundleError
        The library or the measurement cannot be read.
    SetupError
        What reads the library is not installed.
    """
    library = elf.read(bundle.library)
    found = None
    if library is not None:
        found = instructions.instruction_sets(library.architecture, library.code)
    return Inspection(
        bundle=bundle,
        library=library,
        instruction_sets=found,
        measurement=bundle.measurement,
        problems=() if library is None else tuple(_problems(bundle, library, found or {})),
    )


def require_declared(library: Path, name: str, declared: Sequence[str]) -> None:
    """Refuse a library whose code needs more of a processor than it asks for when it is loaded.

    Parameters
    ----------
    library
        The library, as built.
    name
        The target's name.
    declared
        The features that it asks for, by the names of ``/proc/cpuinfo``.

    Raises
    ------
    BuildError
        It has instructions of other sets: a processor without them would stop in the middle.
    """
    described = elf.read(library)
    if described is None:
        return
    found = instructions.instruction_sets(described.architecture, described.code) or {}
    if more := instructions.undeclared(found, declared):
        raise BuildError(
            f"the code for {name} has instructions of {', '.join(more)}, for which its library "
            f"would not ask the processor; name a processor that has them in the target's file "
            "([tvm] mcpu or mattr), or report this with the target"
        )


def _problems(bundle: Bundle, library: ElfFile, found: Mapping[str, int]) -> list[str]:
    target = bundle.manifest.target
    problems = []
    if library.architecture != target.arch:
        problems.append(
            f"the library is for {library.architecture or 'an unknown architecture'}, and the "
            f"manifest says {target.arch}"
        )
    if more := instructions.undeclared(found, target.cpu_features):
        problems.append(
            f"the code has instructions of {', '.join(more)}, which the manifest does not ask of "
            "the processor"
        )
    if target.glibc and elf.version_key(library.glibc) > elf.version_key(target.glibc):
        problems.append(
            f"the library needs glibc {library.glibc}, and the manifest says {target.glibc}"
        )
    return problems


def _plain(library: ElfFile) -> dict[str, Any]:
    return {
        "architecture": library.architecture,
        "code_bytes": library.code_bytes,
        "needed": list(library.needed),
        "glibc": library.glibc,
        "sections": [msgspec.to_builtins(each) for each in library.sections],
    }
