"""What a node of an exported graph says of itself: arguments, shape, place in the user's code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


class UnsupportedError(Exception):
    """A converter refuses an operator's arguments: the message says which, and what to do."""


def arguments_of(node: torch.fx.Node) -> dict[str, Any]:
    """Return all arguments, by their names and in the order of the operator's schema."""
    target: Any = node.target
    found = {}
    for number, argument in enumerate(target._schema.arguments):
        given = node.args[number] if number < len(node.args) else argument.default_value
        found[argument.name] = node.kwargs.get(argument.name, given)
    return found


def shape_of(node: Any) -> list[int]:
    """Return the shape of a node's one result."""
    return [int(extent) for extent in node.meta["val"].shape]


def along_each(value: Any, rank: int) -> list[int]:
    """Return an argument such as a stride for each axis: one number stands for all of them."""
    numbers = [value] if isinstance(value, int) else list(value)
    return [int(each) for each in numbers] * (rank if len(numbers) == 1 else 1)


def described(node: torch.fx.Node) -> str:
    """Return the operator of a node, with its module and its line in the user's code."""
    target = node.target
    name = str(target) if not callable(target) else getattr(target, "__name__", str(target))
    modules = list((node.meta.get("nn_module_stack") or {}).values())
    path = modules[-1][0] if modules else ""
    inside = f" in module '{path}'" if path else ""
    return f"operator '{name}'{inside}{_line_of(node)}"


def _line_of(node: torch.fx.Node) -> str:
    """The innermost line of user code that created a node, if torch recorded it."""
    torch_folder = str(Path(torch.__file__).parent)
    found = ""
    for line in (node.meta.get("stack_trace") or "").splitlines():
        text = line.strip()
        if text.startswith("File ") and torch_folder not in text:
            file, _, rest = text.removeprefix('File "').partition('", line ')
            found = f" ({file}:{rest.partition(',')[0]})"
    return found
