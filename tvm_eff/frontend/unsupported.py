"""What a network must not have, found before anything is imported or tuned."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import torch
import tvm
from torch.export.graph_signature import InputKind
from torch.utils import _pytree as pytree

from tvm_eff import failures
from tvm_eff.errors import ModelError
from tvm_eff.frontend import constants
from tvm_eff.frontend.nodes import arguments_of, described

_MOST_LISTED = 5
_NOT_COMPUTED = {
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
    torch.complex64: "complex64",
    torch.complex128: "complex128",
}
_NO_PARAMETERS = {**_NOT_COMPUTED, torch.float64: "float64"}
_WITHOUT_KERNEL = {
    "median.default": "use a mean",
    "median.dim": "use a mean",
    "nanmedian.default": "use a mean",
    "nanmedian.dim": "use a mean",
    "kthvalue.default": "use max or min",
    "sort.default": "sort outside of the model",
    "sort.stable": "sort outside of the model",
    "argsort.default": "sort outside of the model",
    "topk.default": "use max or argmax, or choose outside of the model",
}
"""Operators whose kernels call functions that no runtime of ours has, and what to do instead."""


_NUMBERS = ("_local_scalar_dense.default", "item.default")
"""Operators that take a number out of a tensor."""

_FIRST_RESULT = frozenset(
    {
        "_native_batch_norm_legit.no_stats",
        "_native_batch_norm_legit_no_training.default",
        "native_dropout.default",
        "native_group_norm.default",
        "native_layer_norm.default",
    }
)
"""Operators whose other results belong to training."""


def not_supported(node: torch.fx.Node, error: BaseException) -> str:
    """Return the message on an operator that TVM failed on, and write its words to a file."""
    return (
        f"{described(node)} is not supported with these arguments and dtypes; write it with other "
        f"operators; {failures.advice(error)}"
    )


def abandon(builder: Any) -> None:
    """End the block that a failed conversion leaves open: TVM would warn on the terminal."""
    with suppress(Exception):
        builder._end_block()


def refuse(
    exported: torch.export.ExportedProgram, known: Iterable[str], written: Iterable[str]
) -> None:
    """Refuse what cannot be computed, or not as PyTorch does.

    Parameters
    ----------
    exported
        The program, decomposed, with its constants annotated.
    known
        The names of operators that can be imported.
    written
        Buffers that a call was seen to write; the program itself lacks those of inner modules
        that were replaced.

    Raises
    ------
    ModelError
        It keeps state, has parameters of a dtype or operators that cannot be imported; the
        message names them with their module and line.
    """
    _require_no_state(exported, written)
    _require_single_precision(exported)
    _require_no_randomness(exported)
    _require_tensors(exported)
    _require_fixed_sizes(exported)
    _require_known(exported, set(known))
    _require_first_results(exported)


def _require_no_state(exported: torch.export.ExportedProgram, written: Iterable[str]) -> None:
    kept = list(dict.fromkeys([*exported.graph_signature.buffers_to_mutate.values(), *written]))
    if kept:
        names = ", ".join(f"'{name}'" for name in kept[:_MOST_LISTED])
        plural = "buffers" if len(kept) > 1 else "buffer"
        raise ModelError(
            f"the model cannot be imported: it keeps state in its {plural} {names} from call to "
            "call, which a library does not; --state makes inputs and outputs of it (state=True in "
            "Python), or have forward take it as an input and return it"
        )


def _require_single_precision(exported: torch.export.ExportedProgram) -> None:
    for spec in exported.graph_signature.input_specs:
        value = exported.state_dict.get(spec.target) if spec.target else None
        if spec.kind == InputKind.PARAMETER and value is not None and value.dtype in _NO_PARAMETERS:
            raise ModelError(
                f"the model cannot be imported: its parameter '{spec.target}' is "
                f"{_NO_PARAMETERS[value.dtype]}; call .float() on the model and give it float32 "
                "inputs (--dtype float16 has the target compute in half precision)"
            )
    for node in _operators(exported):
        value = node.meta.get("val")
        if not isinstance(value, torch.Tensor) or value.dtype not in _NOT_COMPUTED:
            continue
        if constants.value_of(node) is None:
            raise ModelError(
                f"the model cannot be imported: {described(node)} computes in "
                f"{_NOT_COMPUTED[value.dtype]}; have it compute in float32"
            )


def _require_tensors(exported: torch.export.ExportedProgram) -> None:
    for node in _operators(exported):
        if _name(node) in _NUMBERS:
            raise ModelError(
                f"the model cannot be imported: {described(node)} takes a number out of a tensor; "
                "compute with the tensor"
            )


def _require_fixed_sizes(exported: torch.export.ExportedProgram) -> None:
    for node in _operators(exported):
        sizes = [
            extent
            for value in pytree.tree_leaves(node.meta.get("val"))
            for extent in (value.shape if isinstance(value, torch.Tensor) else [value])
        ]
        if any(isinstance(each, torch.SymInt) for each in sizes):
            raise ModelError(
                f"the model cannot be imported: the result of {described(node)} has a size that "
                "depends on the input's values, and a library has fixed ones; use torch.where"
            )


def _require_known(exported: torch.export.ExportedProgram, known: set[str]) -> None:
    for node in _operators(exported):
        instead = _WITHOUT_KERNEL.get(_name(node))
        if instead is not None:
            raise ModelError(
                f"the model cannot be imported: there is no kernel for {described(node)}; {instead}"
            )
    unknown = [described(node) for node in _operators(exported) if _name(node) not in known]
    if not unknown:
        return
    listed = list(dict.fromkeys(unknown))
    more = f"; and {len(listed) - _MOST_LISTED} more" if len(listed) > _MOST_LISTED else ""
    raise ModelError(
        f"the model cannot be imported to Relax: TVM {tvm.__version__} knows no "
        f"{'; no '.join(listed[:_MOST_LISTED])}{more}; write it with other operators"
    )


def _require_no_randomness(exported: torch.export.ExportedProgram) -> None:
    for node in _operators(exported):
        if torch.Tag.nondeterministic_seeded not in getattr(node.target, "tags", ()):
            continue
        if _name(node).startswith("native_dropout") and not arguments_of(node)["train"]:
            continue
        raise ModelError(
            f"the model cannot be imported: {described(node)} is random, and a library computes "
            "the same from the same inputs; have forward take random numbers as an input, and "
            "call dropout with training=False"
        )


def _require_first_results(exported: torch.export.ExportedProgram) -> None:
    for node in _operators(exported):
        if _name(node) in _FIRST_RESULT and any(user.args[1] != 0 for user in node.users):
            raise ModelError(
                f"the model cannot be imported: of {described(node)} only the first result is "
                "supported, and the others belong to training; compute them with mean and var"
            )


def _operators(exported: torch.export.ExportedProgram) -> Iterator[torch.fx.Node]:
    return (node for node in exported.graph.nodes if node.op == "call_function")


def _name(node: torch.fx.Node) -> str:
    return getattr(node.target, "__name__", str(node.target))
