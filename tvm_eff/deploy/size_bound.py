"""A library that is no larger than it may be: smaller weights are chosen until it fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tvm_eff import tune
from tvm_eff.deploy.weights import weight_table
from tvm_eff.errors import BuildError, ModelError
from tvm_eff.passes import RelaxNetwork
from tvm_eff.targets import Target
from tvm_eff.tune import RecordStore, TaskResult

_ATTEMPTS = 4

Built = TypeVar("Built")


@dataclass(frozen=True)
class SizeBound:
    """What a library may have.

    Attributes
    ----------
    most
        Its bytes; None for any.
    least_weights
        The bytes of its weights if none is transformed.
    """

    most: int | None
    least_weights: int

    def choose(
        self,
        results: Sequence[TaskResult],
        records: RecordStore,
        target: Target,
        library: Path,
        build: Callable[[Target, Path, Sequence[TaskResult]], Built],
    ) -> tuple[list[TaskResult], Built]:
        """Build the fastest library that is within the bound.

        Parameters
        ----------
        results, records, target
            What a session found: see :func:`tvm_eff.tune.within_bound`.
        library
            Where it is built.
        build
            Builds it with what is chosen.

        Returns
        -------
        tuple
            What was chosen, and what `build` returned.

        Raises
        ------
        BuildError
            Even the smallest one is larger.
        """
        if self.most is None:
            return list(results), build(target, library, results)
        code = 0  # that there is, the first build tells
        for _ in range(_ATTEMPTS):
            left = self.most - self.least_weights - code
            chosen = tune.within_bound(results, records, target, left)
            if chosen is None:
                break
            built = build(target, library, chosen)
            size = library.stat().st_size
            if size <= self.most:
                return chosen, built
            code = max(code + 1, size - self.least_weights - tune.added_bytes(chosen))
        raise BuildError(
            f"the library has at least {megabytes(self.least_weights + code)}, "
            f"{megabytes(code)} of them code, and may have {megabytes(self.most)}; allow more "
            "(--size), or choose a smaller network"
        )


def size_bound(name: str, network: RelaxNetwork, most: int | None) -> SizeBound:
    """Return the bound of a network's library.

    Parameters
    ----------
    name
        The network's name.
    network
        It, lowered.
    most
        The bytes that its library may have; None for any.

    Raises
    ------
    ModelError
        Its weights alone have more, whatever is chosen.
    """
    least = sum(each.bytes for each in weight_table(network, network.mod))
    if most is not None and least >= most:
        raise ModelError(
            f"the weights of {name} have {megabytes(least)} if none is transformed, and its "
            f"library may have {megabytes(most)}; allow more (--size), or choose a smaller network"
        )
    return SizeBound(most, least)


def megabytes(count: int) -> str:
    """Return a number of bytes in words; it is never rounded down."""
    return f"{-(-count // 10_000) / 100:.2f} MB"
