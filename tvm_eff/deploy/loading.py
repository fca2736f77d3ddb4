"""A path of its own for each loading of a library."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def own_path(library: Path) -> Iterator[Path]:
    """Lend a path of a library that nothing was loaded from before.

    The system's loader takes a path that it has loaded before for the same library, even if
    another file has been put there since.
    """
    # Under this name, tvm_eff.scratch removes it once it is old.
    with tempfile.TemporaryDirectory(prefix=".tvm_eff-new-") as folder:
        link = Path(folder) / library.name
        link.symlink_to(library.resolve())
        yield link
