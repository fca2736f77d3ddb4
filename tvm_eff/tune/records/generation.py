"""What made a kernel's code: a value measured with other code says nothing certain of this one.

A test holds the code of some kernels against hashes, and asks for a new version here, or of
the schedule rule, whenever the code changes.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import lru_cache

import tvm
from tvm.target import codegen

from tvm_eff import schedules
from tvm_eff.passes import pipeline
from tvm_eff.schedules import Candidate
from tvm_eff.targets import Target

PASSES_VERSION = 1
"""To be raised when a pass on TIR, or what it is given, makes other code of the same schedule."""


@dataclass(frozen=True)
class Generation:
    """The parts that make a kernel's code. What is not known is empty.

    Attributes
    ----------
    tvm, llvm
        Versions.
    passes
        Digest of the passes on TIR, their order and their options.
    rule
        The schedule rule and its version.
    """

    tvm: str
    llvm: str = ""
    passes: str = ""
    rule: str = ""

    @property
    def digest(self) -> str:
        """A short name: the same for equal generations, another for any other."""
        return _digest(asdict(self))


def generation_of(candidate: Candidate, target: Target) -> Generation:
    """Return what makes the code of a candidate for a target now."""
    version = schedules.rule_version(candidate)
    return Generation(
        tvm.__version__, _llvm(), _passes(target.gpu is not None), f"{candidate.rule} {version}"
    )


@lru_cache(maxsize=2)
def _passes(opencl: bool) -> str:
    return _digest([PASSES_VERSION, pipeline.tir_description(opencl)])


@lru_cache(maxsize=1)
def _llvm() -> str:
    return str(codegen.llvm_version_major(allow_none=True))


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
