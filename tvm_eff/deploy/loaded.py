"""A bundle's library in this process. Neither torch nor the tuner is imported."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tvm_eff.deploy.accuracy import Case
from tvm_eff.deploy.inputs import InputCheck
from tvm_eff.deploy.manifest import Manifest
from tvm_eff.deploy.validate import compare
from tvm_eff.errors import BundleError, UsageError, nearest

Model = Callable[[Sequence[np.ndarray]], tuple[np.ndarray, ...]]
"""Runs a network on arrays of the right shapes and dtypes."""


class LoadedBundle:
    """A network ready to run on this machine; made by :func:`tvm_eff.load`.

    Called with one numpy array an input, in order or by name, or with tensors of another library
    that lie in this machine's memory, it returns one array an output, as a tuple when there are
    several; :meth:`run` takes and returns them by name. What lies in order in memory is read where
    it is.

    Threads may share it: their calls take turns, and others go on meanwhile. Those that are to run
    at once load the bundle each; the weights are in memory once.

    What a call does in Python finds the caches full of the network's weights, and takes many
    times what it takes alone: so it does little (docs/tvm-0.27.md).
    """

    def __init__(
        self,
        library: Path,
        manifest: Manifest,
        golden_inputs: Sequence[np.ndarray],
        golden_outputs: Sequence[np.ndarray],
        *,
        threads: int | None = None,
        cores: Sequence[int] = (),
        refuse_nan: bool = False,
    ) -> None:
        self.manifest = manifest
        self._calling = threading.Lock()
        self._library = library
        self._golden_inputs, self._golden_outputs = golden_inputs, golden_outputs
        self._checks = [InputCheck(each, refuse_nan) for each in manifest.inputs]
        self._model = _model(library, manifest, threads, cores)

    def __call__(self, *inputs: Any, **named: Any) -> np.ndarray | tuple[np.ndarray, ...]:
        """Run the network on inputs in order, then by name.

        Raises
        ------
        BundleError
            The inputs are not what the network takes.
        """
        outputs = self._run((*inputs, *self._in_order(named, len(inputs))) if named else inputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def run(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Run the network on inputs by name, and return its outputs by name.

        Raises
        ------
        BundleError
            The inputs are not what the network takes.
        """
        outputs = self._run(self._in_order(inputs, 0))
        names = (each.name for each in self.manifest.outputs)
        return dict(zip(names, outputs, strict=True))

    def check(self) -> float:
        """Run the golden inputs and return the largest error against PyTorch's outputs.

        Raises
        ------
        ValidationError
            It is above the tolerance that the bundle was made with.
        """
        found = self.manifest.validation
        golden = Case(
            self._golden_inputs, self._golden_outputs, recorded_errors=found.reference_errors
        )
        return compare(
            self._run(self._golden_inputs),
            golden,
            found.tolerance,
            f"{self._library} on its golden inputs",
            classes=found.same_class is True,
        )

    def __repr__(self) -> str:
        inputs = ", ".join(map(str, self.manifest.inputs))
        outputs = ", ".join(map(str, self.manifest.outputs))
        return f"<{self.manifest.model} for {self.manifest.target.name}: {inputs} -> {outputs}>"

    def _in_order(self, named: Mapping[str, Any], given: int) -> list[Any]:
        """Return what was given by name, but for the first inputs, in the network's order."""
        wanted = [each.name for each in self.manifest.inputs[given:]]
        for name in named:
            if name not in wanted:
                raise BundleError(
                    f"{self.manifest.model} has no input '{name}'"
                    + (" left" if any(name == each.name for each in self.manifest.inputs) else "")
                    + (nearest(name, wanted) if wanted else "")
                )
        missing = [name for name in wanted if name not in named]
        if missing:
            raise BundleError(f"{self.manifest.model} was not given its input '{missing[0]}'")
        return [named[name] for name in wanted]

    def _run(self, inputs: Sequence[Any]) -> tuple[np.ndarray, ...]:
        if len(inputs) != len(self._checks):
            raise BundleError(
                f"{self.manifest.model} takes {len(self._checks)} inputs, not {len(inputs)}: "
                + ", ".join(map(str, self.manifest.inputs))
            )
        # The library has one set of buffers, and so have the inputs.
        with self._calling:
            arrays = [each.array(given) for each, given in zip(self._checks, inputs, strict=True)]
            return self._model(arrays)


def _model(library: Path, manifest: Manifest, threads: int | None, cores: Sequence[int]) -> Model:
    if manifest.runtime == "native":
        from tvm_eff.deploy.native.model import NativeModel

        return NativeModel(library, manifest.inputs, manifest.outputs, threads, cores)
    if threads is not None or cores:
        raise UsageError(
            f"TVM's virtual machine runs {library}, whose threads are set where Python is started: "
            "TVM_NUM_THREADS=2 python ...; leave threads and cores out"
        )
    from tvm_eff.deploy.virtual_machine import VirtualMachineModel

    return VirtualMachineModel(library, manifest)
