"""TVMScript's ``T.prim_func`` for functions whose closures hold all that they name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm.script.parser._core import parse, utils


def prim_func(*, s_tir: bool, private: bool = False) -> Callable[[Callable[..., None]], Any]:
    """Return the decorator that TVM's parser makes a PrimFunc with.

    TVM's own looks for names on the whole stack, and does so twice: the source of each frame's
    file is read and each module that is loaded is asked for its file. The ten of an import took
    a second of its 1.2, and several below a test's stack.

    Parameters
    ----------
    s_tir
        Whether it has blocks, to be scheduled. The parser reads this from the source.
    private
        Whether it has no global symbol. The parser reads this as well.
    """

    def parsed(function: Callable[..., None]) -> Any:
        return parse(function, utils.inspect_function_capture(function))

    parsed.dispatch_token = "tirx"  # type: ignore[attr-defined]
    return parsed
