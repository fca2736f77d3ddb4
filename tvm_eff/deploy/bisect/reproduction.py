"""A folder that shows a wrong kernel by itself: the library, the kernel's tensors, a script."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tvm_eff import paths
from tvm_eff.errors import BundleError

SCRIPT, TENSORS, LIBRARY, SCHEDULE = "reproduce.py", "kernel.npz", "model.so", "schedule.txt"
_FILES = (SCRIPT, TENSORS, LIBRARY, SCHEDULE)

_TEXT = '''\
"""{title}

It needs tvm_eff: python {script}{usage}
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from tvm_eff.device import selection
from tvm_eff.deploy.bisect.difference import difference
from tvm_eff.tensors import TensorSpec

HERE = Path(__file__).resolve().parent
TOLERANCE = {tolerance!r}  # of the spread of what is expected

tensors = np.load(HERE / "{tensors}")
inputs = [tensors[f"input_{{n}}"] for n in range({inputs})]
expected = [tensors[f"output_{{n}}"] for n in range({outputs})]
written = [tensors[f"written_{{n}}"] for n in range({outputs})]

with {device} as device:
    print("on", device.where)
    specs = [TensorSpec(each.shape, str(each.dtype)) for each in expected]
    found, _ = device.call(HERE / "{library}", "{kernel}", inputs, specs)

wrong = [
    each
    for n in range({outputs})
    if (each := difference(found[n], expected[n], written[n], TOLERANCE, f"output {{n}}"))
]
for n in range({inputs}):
    # What the library's constants should be, where that is known.
    if f"constant_{{n}}" in tensors:
        constant = tensors[f"constant_{{n}}"]
        everywhere = np.ones(constant.shape, bool)
        each = difference(inputs[n], constant, everywhere, 1e-5, f"argument {{n}}")
        wrong += [each] if each else []
for each in wrong:
    print("{kernel}:", each)
print("wrong" if wrong else "right")
sys.exit(1 if wrong else 0)
'''


@dataclass(frozen=True)
class Reproduction:
    """What a script must know.

    Attributes
    ----------
    title
        What is wrong, in a sentence.
    library
        The library; it is copied.
    kernel
        The kernel's name in it.
    inputs
        What the kernel is called with, the library's constants among it.
    outputs, written
        What it should write, and where.
    constants
        What those of the inputs should be that are the library's constants, by their places.
    tolerance
        How far it may be from that, as a fraction of the spread.
    device
        Python's expression for the device.
    key
        Whether that takes the key of an RPC server.
    schedule
        The kernel's schedule and its trace, as text.
    """

    title: str
    library: Path
    kernel: str
    inputs: Sequence[np.ndarray] = field(repr=False)
    outputs: Sequence[np.ndarray] = field(repr=False)
    written: Sequence[np.ndarray] = field(repr=False)
    constants: Mapping[int, np.ndarray] = field(repr=False)
    tolerance: float
    device: str
    key: bool
    schedule: str

    def write(self, folder: Path) -> Path:
        """Write the folder, in the place of an earlier one, and return the script's path.

        Raises
        ------
        BundleError
            The folder holds something else, or cannot be written.
        """
        require_replaceable(folder)
        try:
            with paths.atomic_folder(folder) as part:
                shutil.copyfile(self.library, part / LIBRARY)
                np.savez(part / TENSORS, **self._tensors())
                (part / SCHEDULE).write_text(self.schedule, encoding="utf-8")
                (part / SCRIPT).write_text(self._text(), encoding="utf-8")
        except OSError as error:
            raise BundleError(
                f"cannot write the script to {folder}: {error.strerror or error}; "
                "name another folder with --output FOLDER"
            ) from error
        return folder / SCRIPT

    def _tensors(self) -> dict[str, Any]:
        groups = (("input", self.inputs), ("output", self.outputs), ("written", self.written))
        found = {f"{kind}_{n}": each for kind, arrays in groups for n, each in enumerate(arrays)}
        return {**found, **{f"constant_{n}": each for n, each in self.constants.items()}}

    def _text(self) -> str:
        return _TEXT.format(
            title=self.title,
            script=SCRIPT,
            usage=" KEY" if self.key else "",
            tolerance=self.tolerance,
            tensors=TENSORS,
            inputs=len(self.inputs),
            outputs=len(self.outputs),
            device=self.device,
            library=LIBRARY,
            kernel=self.kernel,
        )


def require_replaceable(folder: Path) -> None:
    """Refuse to write over what no earlier script's folder holds.

    Raises
    ------
    BundleError
        There is something else.
    """
    if not folder.exists():
        return
    foreign = (
        sorted(each.name for each in folder.iterdir() if each.name not in _FILES)
        if (folder.is_dir())
        else [folder.name]
    )
    if foreign:
        raise BundleError(
            f"{folder} holds '{foreign[0]}', which would be lost; name another folder with "
            "--output FOLDER"
        )
