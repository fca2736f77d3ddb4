"""Each operator of a network imported alone, in the way the whole network is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
import tvm
from tvm import relax
from tvm.relax.frontend.torch.exported_program_translator import ExportedProgramImporter

from tvm_eff.errors import ModelError
from tvm_eff.frontend.arithmetic import dtype_of
from tvm_eff.frontend.operators import CONVERTERS
from tvm_eff.frontend.unsupported import abandon, not_supported
from tvm_eff.passes.relax.legalize import legalize_operators

_NO_OPERATORS = ("getitem", "empty", "new_empty")


@dataclass(frozen=True)
class SingleOperator:
    """An operator at its place in the network.

    Attributes
    ----------
    node
        Its node; the inputs are the node's tensors, in the order of ``all_input_nodes``.
    mod
        A module whose ``main`` is the operator alone.
    key
        A digest of its PrimFuncs: operators alike, of the same shapes and arguments, share it.
    """

    node: torch.fx.Node
    mod: tvm.IRModule = field(repr=False)
    key: str


def single_operators(core: torch.export.ExportedProgram) -> Iterator[SingleOperator]:
    """Import each operator of a program, decomposed by :func:`tvm_eff.frontend.decompose`, alone.

    Taking an element of a tuple is no operator: it is part of what uses it. Nor is what has no
    value yet.
    """
    for node in core.graph.nodes:
        if node.op == "call_function" and not node.target.__name__.startswith(_NO_OPERATORS):
            try:
                mod = _imported(node)
                text = tvm.ir.save_json(legalize_operators()(mod)).encode()
            except Exception as error:  # TVM raises assertions and its own types
                raise ModelError(
                    f"the model cannot be imported: {not_supported(node, error)}"
                ) from error
            yield SingleOperator(node, mod, "op_" + hashlib.sha256(text).hexdigest()[:24])


def _imported(node: torch.fx.Node) -> tvm.IRModule:
    importer = ExportedProgramImporter()
    importer.update_convert_map(dict(CONVERTERS))
    importer.block_builder = builder = relax.BlockBuilder()
    variables = []
    for number, each in enumerate(node.all_input_nodes):
        value = each.meta["val"]
        shape = [int(extent) for extent in value.shape]
        variables.append(relax.Var(f"x{number}", relax.TensorType(shape, dtype_of(value.dtype))))
    importer.env = dict(zip(node.all_input_nodes, variables, strict=True))
    try:
        return _built(node, importer, variables)
    except Exception:
        abandon(builder)
        raise


def _built(
    node: torch.fx.Node, importer: ExportedProgramImporter, variables: list[relax.Var]
) -> tvm.IRModule:
    builder, name = importer.block_builder, node.target.__name__  # type: ignore[union-attr]
    with builder.function("main", variables):
        with builder.dataflow():
            convert = importer.convert_map[name]
            found = convert(node, importer) if name in CONVERTERS else convert(node)
            result = builder.emit_output(found)
        builder.emit_func_output(result)
    return builder.get()
