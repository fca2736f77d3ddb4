"""The form of a target file, and reading it strictly."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta
from typing_extensions import NotRequired, TypedDict

from tvm_eff import paths, strict
from tvm_eff.errors import TargetError
from tvm_eff.targets import detect
from tvm_eff.targets.schema import Emulator, Gpu, Hardware, Name, Rpc, Text, Toolchain

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_Feature = Annotated[
    str,
    Meta(pattern=r"\A[+-]\S+\Z", description='a CPU feature with its sign, such as "+neon"'),
]
_Features = Annotated[
    tuple[_Feature, ...],
    Meta(description='a list of CPU features with their sign, such as ["+neon"]'),
]

Processor = TypedDict(
    "Processor",
    {
        "kind": Literal["llvm"],
        "mtriple": Text,
        "mcpu": Text,
        "mattr": NotRequired[_Features],
        "mfloat-abi": NotRequired[Literal["hard", "soft"]],
    },
)
"""TVM's attributes of a processor, as far as a target file says them."""


def _table(name: str) -> Meta:
    return Meta(description=f"a table, written [{name}]")


@dataclass(frozen=True)
class TargetFile:
    """What a target file says, key by key; see :class:`tvm_eff.targets.Target`."""

    name: Name
    description: Text
    tvm: Annotated[Processor, _table("tvm")]
    hardware: Annotated[Hardware, _table("hardware")]
    toolchain: Annotated[Toolchain, _table("toolchain")]
    rpc: Annotated[Rpc, _table("rpc")]
    emulator: Annotated[Emulator, _table("emulator")] | None = None
    gpu: Annotated[Gpu, _table("gpu")] | None = None
    detect: bool = False


_MOST_BYTES = 1 << 20


def read(path: Path) -> TargetFile:
    """Read a target file; where it asks for it, what it leaves out is detected.

    Raises
    ------
    TargetError
        The file cannot be read, is not TOML, or says something else than a target file may;
        or this machine is to be detected and is not one that is supported.
    """
    data = _read_toml(path)
    if data.get("detect") is True:
        data = _filled(data, detect.detect())
    return strict.convert(data, TargetFile, where=path, error=TargetError)


def _filled(data: dict[str, Any], found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Let `found` stand in for what the file leaves out."""
    filled = dict(data)
    for key, table in found.items():
        given = data.get(key, {})
        if isinstance(given, dict):  # anything else is refused later
            filled[key] = {**table, **given}
    return filled


def _read_toml(path: Path) -> dict[str, Any]:
    content = paths.read_regular(
        path, _MOST_BYTES, TargetError, "check the path of the target file"
    )
    try:
        return tomllib.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise TargetError(f"{path} is not UTF-8 text: {error.reason}") from error
    except (ValueError, RecursionError) as error:  # tomllib has limits besides TOML's own
        raise TargetError(f"{path} is not valid TOML: {error}") from error
