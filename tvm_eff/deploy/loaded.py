"""A bundle's library in this process. Neither torch nor the tuner is imported."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from tvm_eff.deploy import gpu
from tvm_eff.deploy.accuracy import Case
from tvm_eff.deploy.manifest import Manifest, TensorInfo
from tvm_eff.deploy.validate import compare
from tvm_eff.errors import BundleError
from tvm_eff.targets.detect import usable_cores


class LoadedBundle:
    """A network ready to run on this machine; made by :func:`tvm_eff.load`.

    Called with one numpy array an input, or a tensor of another library that lies in this
    machine's memory, it returns one array an output, as a tuple when there are several.
    Threads may share it: their calls take turns.

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
        refuse_nan: bool = False,
    ) -> None:
        self.manifest = manifest
        self._calling = threading.Lock()
        self._library = library
        self._golden_inputs, self._golden_outputs = golden_inputs, golden_outputs
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
                    refuse_nan,
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

    def _run(self, inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        if len(inputs) != len(self._inputs):
            raise BundleError(
                f"{self.manifest.model} takes {len(self._inputs)} inputs, not {len(inputs)}: "
                + ", ".join(map(str, self.manifest.inputs))
            )
        # The library has one set of buffers, and so have the inputs.
        with self._calling:
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
    refuse_nan
        Whether a NaN is an error.
    """

    def __init__(
        self,
        info: TensorInfo,
        own: Any,
        lend: Callable[[np.ndarray], Any] | None,
        refuse_nan: bool,
    ) -> None:
        self._info, self._own, self._lend = info, own, lend
        self._refuse_nan = refuse_nan and np.issubdtype(np.dtype(info.dtype), np.floating)
        self._shape, self._dtype = info.shape, np.dtype(info.dtype)
        self._strides = np.empty(info.shape, self._dtype).strides

    def tensor(self, array: Any) -> Any:
        """Return `array` where it is, if the library can read it there, or else copied.

        Raises
        ------
        BundleError
            It is not what the network takes.
        """
        if type(array) is not np.ndarray:
            array = self._as_array(array)
        self._check(array)
        # numpy lends nothing that is read-only. Where an extent is 1, any stride is contiguous.
        if self._lend and array.flags.carray and array.strides == self._strides:
            return self._lend(array)
        self._own.copyfrom(array)
        return self._own

    def _as_array(self, given: Any) -> np.ndarray:
        """Return a subclass of numpy's array, or another library's tensor, as a plain array."""
        if isinstance(given, np.ma.MaskedArray):
            if np.ma.is_masked(given):
                raise BundleError(
                    f"the input {self._info} was given with masked values, which a network cannot "
                    "leave out; fill them: x.filled(0)"
                )
            return given.data
        if isinstance(given, np.ndarray):
            return given.view(np.ndarray)
        if not hasattr(given, "__dlpack__"):
            raise BundleError(
                f"the input {self._info} was given as "
                f"{type(given).__module__}.{type(given).__name__}; give a numpy array or a tensor"
            )
        try:
            return np.from_dlpack(given)
        except Exception as error:  # whatever the other library raises
            raise BundleError(
                f"the input {self._info} was given as {type(given).__module__}."
                f"{type(given).__name__}, which cannot be read as it is "
                f"({str(error).splitlines()[0]}); give a numpy array"
            ) from error

    def _check(self, array: np.ndarray) -> None:
        if array.shape != self._shape:
            raise BundleError(f"the input {self._info} was given with the shape {array.shape}")
        if array.dtype != self._dtype:
            raise BundleError(
                f"the input {self._info} was given as {array.dtype}; "
                f"convert it: x.astype('{self._info.dtype}')"
            )
        if self._refuse_nan and np.isnan(array).any():
            count = int(np.isnan(array).sum())
            raise BundleError(
                f"the input {self._info} has {count} NaN, of which the network would make numbers"
            )


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
    # (Under this name, tvm_eff.scratch removes it once it is old.)
    with tempfile.TemporaryDirectory(prefix=".tvm_eff-new-") as folder:
        link = Path(folder) / library.name
        link.symlink_to(library.resolve())
        return load_module(str(link))


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
