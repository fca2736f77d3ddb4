"""Frozen dataclasses from JSON, strictly: a mismatch names the place and what was expected."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from tvm_eff.errors import nearest

Parsed = TypeVar("Parsed")

_WORDS = {str: "a string", int: "an integer", float: "a number", bool: "true or false"}


class Mismatch(Exception):
    """The data does not have the expected form."""


def parse(kind: type[Parsed], value: Any, where: str = "") -> Parsed:
    """Return `value`, as read from JSON, as the dataclass `kind`.

    Raises
    ------
    Mismatch
        A key is unknown or missing, or a value has another type.
    """
    if not isinstance(value, dict):
        raise Mismatch(f"{where or 'the file'} is {_short(value)}; expected an object")
    hints = get_type_hints(kind)
    prefix = f"{where}." if where else ""
    for key in value:
        if key not in hints:
            raise Mismatch(f"unknown key '{prefix}{key}'{nearest(key, hints)}")
    for key in hints:
        if key not in value:
            raise Mismatch(f"the key '{prefix}{key}' is missing")
    fields = {key: _value(hint, value[key], prefix + key) for key, hint in hints.items()}
    return kind(**fields)


def _value(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return parse(hint, value, where)  # type: ignore[arg-type]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        chosen = next(each for each in arguments if each is not type(None))
        return None if value is None else _value(chosen, value, where)
    if origin is Literal:
        _expect(value in arguments, value, where, " or ".join(f'"{word}"' for word in arguments))
        return value
    if origin is tuple:
        _expect(isinstance(value, list), value, where, "a list")
        return tuple(_value(arguments[0], each, f"{where}[{i}]") for i, each in enumerate(value))
    if origin is Mapping:
        _expect(isinstance(value, dict), value, where, "an object")
        fields = {key: _value(arguments[1], each, f"{where}.{key}") for key, each in value.items()}
        return types.MappingProxyType(fields)
    if hint is Any:
        return tuple(value) if isinstance(value, list) else value
    return _scalar(hint, value, where)


def _scalar(hint: Any, value: Any, where: str) -> Any:
    accepted = (int, float) if hint is float else (hint,)
    _expect(type(value) in accepted, value, where, _WORDS[hint])
    if hint is not float:
        return value
    _expect(math.isfinite(value), value, where, "a finite number")
    return float(value)


def _expect(holds: bool, value: Any, where: str, expected: str) -> None:
    if not holds:
        raise Mismatch(f"'{where}' is {_short(value)}; expected {expected}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
