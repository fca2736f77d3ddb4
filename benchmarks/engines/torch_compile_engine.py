"""torch.compile: TorchInductor, with the weights frozen into the compiled code."""

from __future__ import annotations

import numpy as np
import torch
import torch._inductor.config

from engines.base import Call, Job
from engines.torch_eager_engine import call_of, module_of


def load(job: Job) -> Call:
    """Return one inference; the first call compiles it."""
    torch.set_num_threads(job.threads)
    torch._inductor.config.freezing = True
    call = call_of(torch.compile(module_of(job)))
    call(np.zeros(job.shape, "float32"))
    return call
