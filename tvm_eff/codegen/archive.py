"""A native library as a static archive, of which several fit into one program."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tvm_eff.codegen import native, symbols, toolchain
from tvm_eff.targets import Target


@dataclass(frozen=True)
class StaticArchive:
    """An archive of a model.

    Attributes
    ----------
    path
        The file.
    model
        The model's name.
    form
        What a bundle has of it: the archive itself, or the program that it is linked into.
    """

    path: Path
    model: str
    form: Literal["a", "exe"] = "a"

    @property
    def entry(self) -> str:
        """The function that returns its ``tvm_eff_library``."""
        return "tvm_eff_library_" + identifier(self.model)


def identifier(name: str) -> str:
    """Return a name with nothing in it but what C allows."""
    return re.sub(r"[^0-9A-Za-z_]", "_", name)


def build_archive(
    archive: StaticArchive, sources: Sequence[Path], objects: Sequence[Path], target: Target
) -> None:
    """Compile a plan and the runtime into one object with the kernels, and archive it.

    No symbol of it but its entry can be that of another model's.

    Parameters
    ----------
    archive
        The archive to write.
    sources, objects, target
        As for :func:`tvm_eff.codegen.native.link_library`.

    Raises
    ------
    BuildError
        A compiler or linker refuses it.
    """
    entry, joined = archive.entry, sources[0].parent / "model.o"
    native.link(sources, objects, target, ["-r", "-g0", f"-DTVM_EFF_ENTRY={entry}"], joined)
    joined.write_bytes(symbols.prefixed(joined.read_bytes(), f"{entry}.", entry))
    archive.path.unlink(missing_ok=True)
    toolchain.run(["ar", "rcs", archive.path, joined])
