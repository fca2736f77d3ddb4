"""What a module changes in itself when it is called; torch.export does not see all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from tvm_eff.tensors import TOLERANCE

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


@dataclass(frozen=True)
class SideEffects:
    """What was seen when a module was called twice with the same input.

    Attributes
    ----------
    buffers
        Those that it wrote or replaced.
    attributes
        Other attributes that it set or wrote, by the paths of their modules.
    differs
        Whether the second call returned something else.
    """

    buffers: tuple[str, ...]
    attributes: tuple[str, ...]
    differs: bool


def side_effects(module: nn.Module, call: Callable[[], Any]) -> SideEffects:
    """Call a module twice and say what that changed; the module is left as it was.

    Random numbers are the same in both calls.

    Parameters
    ----------
    module
        The module.
    call
        Calls it. What that raises is raised.
    """
    with unchanged(module) as before, torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        first = pytree.tree_map_only(torch.Tensor, torch.clone, call())
        buffers, attributes = before.changed_buffers(), before.changed_attributes()
        torch.manual_seed(0)
        return SideEffects(tuple(buffers), tuple(attributes), not _same(first, call()))


@contextmanager
def unchanged(module: nn.Module) -> Iterator[_Snapshot]:
    """Leave a module as it was, whatever is done with it."""
    before = _Snapshot(module)
    try:
        yield before
    finally:
        before.restore()


class _Snapshot:
    """A module's buffers and attributes at one time."""

    def __init__(self, module: nn.Module) -> None:
        modules = list(module.named_modules())
        self._buffers = [
            (path, each, name, value, value.clone(), _version(value))
            for path, each in modules
            for name, value in each.named_buffers(recurse=False)
        ]
        self._attributes = [(path, each, _attributes(each)) for path, each in modules]
        self._versions = {
            id(value): _version(value)
            for _, _, attributes in self._attributes
            for value in attributes.values()
            if isinstance(value, torch.Tensor)
        }

    def changed_buffers(self) -> list[str]:
        return [
            _joined(path, name)
            for path, each, name, value, _, version in self._buffers
            if getattr(each, name) is not value or _version(value) != version
        ]

    def changed_attributes(self) -> list[str]:
        return [
            _joined(path, name)
            for path, each, before in self._attributes
            for name, value in _attributes(each).items()
            if self._is_changed(before.get(name, self), value)
        ]

    def _is_changed(self, before: Any, now: Any) -> bool:
        if isinstance(now, torch.Tensor) and now is before:
            return _version(now) != self._versions[id(now)]
        plain = isinstance(now, int | float | str | bool) and type(now) is type(before)
        return bool(now != before) if plain else now is not before

    @torch.no_grad()
    def restore(self) -> None:
        for _, each, name, value, copy, version in self._buffers:
            if _version(value) != version:
                value.copy_(copy)
            setattr(each, name, value)
        for _, each, before in self._attributes:
            for name in _attributes(each):
                if name not in before:
                    delattr(each, name)
            vars(each).update(before)


def _version(tensor: torch.Tensor) -> int:
    """How often it was written; tensors made in inference mode do not count."""
    return 0 if tensor.is_inference() else tensor._version


def _attributes(module: nn.Module) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if name not in _OF_EVERY_MODULE}


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _same(first: Any, second: Any) -> bool:
    ours, theirs = pytree.tree_leaves(first), pytree.tree_leaves(second)
    return len(ours) == len(theirs) and all(map(_equal, ours, theirs))


def _equal(first: Any, second: Any) -> bool:
    """Whether two results are the same but for the order of sums in several threads."""
    if not isinstance(first, torch.Tensor) or not isinstance(second, torch.Tensor):
        return type(first) is type(second)
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    return torch.allclose(first, second, rtol=TOLERANCE, atol=_spread(first), equal_nan=True)


def _spread(tensor: torch.Tensor) -> float:
    finite = tensor[torch.isfinite(tensor)].double()
    return TOLERANCE * float(finite.max() - finite.min()) if finite.numel() else 0.0


def named(names: Sequence[str], most: int = 5) -> str:
    """Return a list of names for a message."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"'{name}'" for name in names[:most]) + more
