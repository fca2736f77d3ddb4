"""A bundle's library in this process. Neither torch nor the tuner is imported."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from tvm_eff.deploy import gpu
from tvm_eff.deploy.manifest import Manifest, TensorInfo
from tvm_eff.deploy.validate import compare
from tvm_eff.errors import BundleError
from tvm_eff.host import usable_cores


class LoadedBundle:
    """A network ready to run on this machine; made by :func:`tvm_eff.load`.

    Called with one numpy array an input, it returns one an output, as a tuple when
    there are several. One call at a time: it is not to be shared by threads.
    """

    def __init__(
        self,
        library: Path,
        manifest: Manifest,
        golden_inputs: Sequence[np.ndarray],
        golden_outputs: Sequence[np.ndarray],
    ) -> None:
        self.manifest = manifest
        self._library = library
        self._golden_inputs, self._golden_outputs = golden_inputs, golden_outputs
        _check_version(manifest, library)
        with _without_torch():
            import tvm
            from tvm.runtime.vm import VirtualMachine

            needs = manifest.target.opencl
            self._device = tvm.cpu() if needs is None else gpu.find(needs, library)
        _use_all_cores()
        # Kept from call to call: fresh memory for a large input costs more than the copy.
        self._tensors = [
            tvm.runtime.empty(each.shape, each.dtype, self._device) for each in manifest.inputs
        ]
        try:
            self._machine = VirtualMachine(_load(library), self._device)
            self._main = self._machine[manifest.function]
        except Exception as error:  # whatever the loader and TVM raise
            reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
            raise BundleError(
                f"{library} cannot be loaded: {reason}; it was built "
                f"for {manifest.target.triple} with glibc {manifest.target.glibc or '-'} and TVM "
                f"{manifest.versions.tvm}: build it again for this machine"
            ) from error

    def __call__(self, *inputs: np.ndarray) -> np.ndarray | tuple[np.ndarray, ...]:
        """Run the network.

        Raises
        ------
        BundleError
            The inputs are not what the network takes.
        """
        outputs = self._run(inputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def check(self) -> float:
        """Run the golden inputs and return the largest error against PyTorch's outputs.

        Raises
        ------
        ValidationError
            It is above the tolerance that the bundle was made with.
        """
        return compare(
            self._run(self._golden_inputs),
            self._golden_outputs,
            self.manifest.validation.tolerance,
            f"{self._library} on its golden inputs",
            classes=self.manifest.validation.same_class is True,
        )

    def __repr__(self) -> str:
        inputs = ", ".join(map(str, self.manifest.inputs))
        outputs = ", ".join(map(str, self.manifest.outputs))
        return f"<{self.manifest.model} for {self.manifest.target.name}: {inputs} -> {outputs}>"

    def _run(self, inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        expected = self.manifest.inputs
        if len(inputs) != len(expected):
            raise BundleError(
                f"{self.manifest.model} takes {len(expected)} inputs, not {len(inputs)}: "
                + ", ".join(map(str, expected))
            )
        for array, info in zip(inputs, expected, strict=True):
            _check_input(array, info)
        for tensor, array in zip(self._tensors, inputs, strict=True):
            tensor.copyfrom(array)
        return tuple(_flat(self._main(*self._tensors)))


def _check_version(manifest: Manifest, library: Path) -> None:
    made_with, present = manifest.versions.tvm, metadata.version("apache-tvm")
    if made_with.split(".")[:2] != present.split(".")[:2]:
        raise BundleError(
            f"{library} was built with TVM {made_with}, and TVM {present} is installed; "
            f"run: pip install apache-tvm=={made_with}"
        )


def _use_all_cores() -> None:
    """Run with as many threads as the tuner did, unless the user says how many.

    On x86 TVM takes half the processors, as if each second one were a hyperthread.
    It reads the environment when it first runs a parallel loop.
    """
    if platform.machine() == "x86_64" and "OMP_NUM_THREADS" not in os.environ:
        os.environ.setdefault("TVM_NUM_THREADS", str(usable_cores()))


def _load(library: Path) -> Any:
    # Not TVM's own load_module, which resolves links.
    from tvm_ffi import load_module

    # The system's loader takes a path that it has loaded before for the same library,
    # even if another file has been put there since: each loading has its own path.
    with tempfile.TemporaryDirectory(prefix="tvm_eff_") as folder:
        link = Path(folder) / library.name
        link.symlink_to(library.resolve())
        return load_module(str(link))


def _check_input(array: Any, info: TensorInfo) -> None:
    if not isinstance(array, np.ndarray):
        raise BundleError(
            f"the input {info} was given as {type(array).__module__}.{type(array).__name__}; "
            "give a numpy array"
        )
    if array.shape != info.shape:
        raise BundleError(f"the input {info} was given with the shape {array.shape}")
    if str(array.dtype) != info.dtype:
        raise BundleError(
            f"the input {info} was given as {array.dtype}; convert it: x.astype('{info.dtype}')"
        )


def _flat(outputs: Any) -> Iterator[np.ndarray]:
    if hasattr(outputs, "numpy"):
        yield outputs.numpy()
        return
    for each in outputs:
        yield from _flat(each)


class _NoTorch:
    """Tells this thread's imports that torch is not there."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name == "torch" and threading.get_ident() == self._thread:
            raise ModuleNotFoundError("hidden while TVM is imported", name=name)


@contextmanager
def _without_torch() -> Iterator[None]:
    """Import TVM without torch, which it would import only because it is installed."""
    if "torch" in sys.modules:
        yield
        return
    hider = _NoTorch()
    sys.meta_path.insert(0, hider)  # type: ignore[arg-type]
    try:
        yield
    finally:
        sys.meta_path.remove(hider)  # type: ignore[arg-type]
