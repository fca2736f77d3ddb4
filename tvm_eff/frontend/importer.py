"""Trace a PyTorch module with torch.export and import it to Relax."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

import torch
import tvm
from torch import nn
from tvm import relax
from tvm.relax.frontend.torch.exported_program_translator import ExportedProgramImporter

from tvm_eff import failures
from tvm_eff.errors import ModelError
from tvm_eff.frontend import constants, unsupported
from tvm_eff.frontend.nodes import UnsupportedError, described
from tvm_eff.frontend.operators import CONVERTERS
from tvm_eff.frontend.unsupported import abandon, not_supported
from tvm_eff.models.network import Network
from tvm_eff.models.program import Program, quiet, trace
from tvm_eff.passes import RelaxNetwork
from tvm_eff.tensors import TensorSpec


def import_model(model: nn.Module, inputs: Sequence[torch.Tensor]) -> RelaxNetwork:
    """Trace `model` on example inputs and import it.

    Parameters
    ----------
    model
        A module in inference mode.
    inputs
        Example inputs; their shapes and dtypes become the network's.

    Raises
    ------
    ModelError
        As for :func:`tvm_eff.models.trace` and :func:`import_program`.
    """
    specs = [TensorSpec(tuple(x.shape), str(x.dtype).removeprefix("torch.")) for x in inputs]
    return import_program(trace(Network(type(model).__name__, model, tuple(specs))))


def decompose(program: Program) -> torch.export.ExportedProgram:
    """Return a traced network in core operators, its constants annotated, and nothing refused.

    Raises
    ------
    ModelError
        It uses what cannot be imported: see :func:`tvm_eff.frontend.unsupported.refuse`.
    """
    with quiet():
        core = _without_assertions(program.exported.run_decompositions())
        _write_out_strides(core)
        constants.annotate(core)
        known = ExportedProgramImporter().convert_map.keys() | CONVERTERS
        unsupported.refuse(core, known, program.written)
    return core


def import_program(
    program: Program, core: torch.export.ExportedProgram | None = None
) -> RelaxNetwork:
    """Import a traced network.

    Parameters
    ----------
    program
        The network.
    core
        What :func:`decompose` made of it, if it is at hand.

    Raises
    ------
    ModelError
        As for :func:`decompose`, or an operator's arguments cannot be imported; the message
        names it with its module and line.
    """
    core = decompose(program) if core is None else core
    with quiet():
        mod = _translate(core)
    mod, params = relax.frontend.detach_params(mod)
    arrays = [param.numpy() for param in params["main"]]
    names = _parameter_names(core, mod["main"], len(arrays))
    return RelaxNetwork(
        mod=mod,
        params=arrays,
        inputs=program.inputs,
        outputs=program.outputs,
        sources=tuple((name,) for name in names),
        source_bytes={name: each.nbytes for name, each in zip(names, arrays, strict=True)},
    )


def _parameter_names(
    core: torch.export.ExportedProgram, main: relax.Function, count: int
) -> list[str]:
    """PyTorch's names of the last parameters of an imported network."""
    targets = {each.arg.name: each.target for each in core.graph_signature.input_specs}
    given = [str(each.name) for each in main.params][len(main.params) - count :]
    return [targets.get(name) or name for name in given]


def _without_assertions(
    exported: torch.export.ExportedProgram,
) -> torch.export.ExportedProgram:
    """Remove assertions on the data, such as ``one_hot``'s: the runtime does not support them."""
    for node in list(exported.graph.nodes):
        if node.op == "call_function" and node.target.__name__.startswith("_assert"):
            exported.graph.erase_node(node)
    exported.graph.eliminate_dead_code()
    return exported


def _write_out_strides(core: torch.export.ExportedProgram) -> None:
    """Give poolings whose stride is left out their kernel's: TVM's importer takes it for none."""
    for node in core.graph.nodes:
        if node.op == "call_function" and "_pool" in node.target.__name__:
            kernel, stride = (*node.args[1:3], None, None)[:2]
            if stride == []:
                node.args = (*node.args[:2], kernel, *node.args[3:])


def _translate(exported: torch.export.ExportedProgram) -> tvm.IRModule:
    importer = ExportedProgramImporter()
    try:
        return importer.from_exported_program(
            exported,
            keep_params_as_input=True,
            unwrap_unit_return_tuple=True,
            no_bind_return_tuple=False,
            custom_convert_map=dict(CONVERTERS),
        )
    except Exception as error:  # TVM raises assertions and its own types
        abandon(importer.block_builder)
        raise ModelError(
            f"the model cannot be imported to Relax: {_why(error, _node_at_fault(error))}"
        ) from error


def _why(error: Exception, node: torch.fx.Node | None) -> str:
    """Our own words on an error; TVM's are for the report."""
    if node is None:
        return failures.advice(error)
    if isinstance(error, UnsupportedError):
        return f"in {described(node)}: {error}"
    return not_supported(node, error)


def _node_at_fault(error: Exception) -> torch.fx.Node | None:
    """The node that TVM's importer was converting, which its errors do not name."""
    found = None
    for frame in _frames(error.__traceback__):
        node = frame.f_locals.get("node")
        if isinstance(node, torch.fx.Node) and node.op == "call_function":
            found = node
    return found


def _frames(trace: TracebackType | None) -> Iterator[Any]:
    while trace is not None:
        yield trace.tb_frame
        trace = trace.tb_next
