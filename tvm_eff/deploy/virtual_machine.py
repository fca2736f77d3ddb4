"""A library that TVM's virtual machine runs, in this process."""

from __future__ import annotations

import os
import platform
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from tvm_eff.deploy import gpu
from tvm_eff.deploy.loading import own_path
from tvm_eff.deploy.manifest import Manifest, TensorInfo
from tvm_eff.errors import BundleError
from tvm_eff.targets.detect import usable_cores


class VirtualMachineModel:
    """The network of a library.

    Raises
    ------
    BundleError
        It cannot be loaded, or was built with another TVM.
    """

    def __init__(self, library: Path, manifest: Manifest) -> None:
        _check_version(manifest, library)
        with _without_torch():
            import tvm
            from tvm.runtime.vm import VirtualMachine
            from tvm_ffi import Tensor, from_dlpack

            self._tensor_type = Tensor
            needs = manifest.target.opencl
            self._on_cpu = needs is None
            self._device = tvm.cpu() if needs is None else gpu.find(needs, library)
        _use_all_cores()
        try:
            self._inputs = [
                _Input(
                    each,
                    tvm.runtime.empty(each.shape, each.dtype, self._device),
                    from_dlpack if manifest.inputs_anywhere else None,
                )
                for each in manifest.inputs
            ]
            self._machine = VirtualMachine(_load(library), self._device)
            self._main = self._machine[manifest.function]
        except Exception as error:  # whatever the loader and TVM raise
            reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
            raise BundleError(
                f"{library} cannot be loaded: {reason}; it was built "
                f"for {manifest.target.triple} with glibc {manifest.target.glibc or '-'} and TVM "
                f"{manifest.versions.tvm}: build it again for this machine"
            ) from error

    def __call__(self, inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        """Run it on arrays of the right shapes and dtypes; one call at a time."""
        tensors = [each.tensor(array) for each, array in zip(self._inputs, inputs, strict=True)]
        return tuple(self._arrays(self._main(*tensors)))

    def _arrays(self, outputs: Any) -> Iterator[np.ndarray]:
        if isinstance(outputs, self._tensor_type):
            yield self._array(outputs)
            return
        for each in outputs:
            yield from self._arrays(each)

    def _array(self, tensor: Any) -> np.ndarray:
        """Return a copy: the tensor may be a constant of the library, or an input."""
        return np.from_dlpack(tensor).copy() if self._on_cpu else tensor.numpy()


class _Input:
    """Takes arrays for one input of the network.

    Parameters
    ----------
    info
        What the network takes.
    own
        A tensor to copy into. Kept from call to call: fresh memory for a large input costs
        more than the copy.
    lend
        Makes a tensor of an array without a copy, if the library can read it anywhere.
    """

    def __init__(
        self, info: TensorInfo, own: Any, lend: Callable[[np.ndarray], Any] | None
    ) -> None:
        self._own, self._lend = own, lend
        self._strides = np.empty(info.shape, info.dtype).strides

    def tensor(self, array: np.ndarray) -> Any:
        """Return `array` where it is, if the library can read it there, or else copied."""
        # numpy lends nothing that is read-only. Where an extent is 1, any stride is contiguous.
        if self._lend and array.flags.carray and array.strides == self._strides:
            return self._lend(array)
        self._own.copyfrom(array)
        return self._own


def _check_version(manifest: Manifest, library: Path) -> None:
    made_with, ffi = manifest.versions.tvm, manifest.versions.tvm_ffi
    try:
        present = metadata.version("apache-tvm")
    except metadata.PackageNotFoundError as error:
        raise BundleError(
            f"TVM's virtual machine runs {library}, and TVM is not installed; run: pip install "
            f"apache-tvm=={made_with} apache-tvm-ffi=={ffi}"
        ) from error
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

    with own_path(library) as path:
        return load_module(str(path))


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
    sys.meta_path.insert(0, hider)
    try:
        yield
    finally:
        sys.meta_path.remove(hider)
