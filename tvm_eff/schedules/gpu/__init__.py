"""Design spaces of GPUs: each rule makes kernels of work-items, through OpenCL."""

from tvm_eff.schedules.gpu.depthwise import GpuDepthwise
from tvm_eff.schedules.gpu.elementwise import GpuElementwise
from tvm_eff.schedules.gpu.fallback import Dlight, GpuFallback, apply_plain
from tvm_eff.schedules.gpu.pooling import GpuPooling
from tvm_eff.schedules.gpu.tile import GpuTile
from tvm_eff.schedules.rule import Rule

RULES: tuple[Rule, ...] = (
    GpuTile(),
    GpuDepthwise(),
    GpuPooling(),
    GpuElementwise(),
    GpuFallback(),
)
"""Asked in this order; the first that matches gives the space."""

BESIDE: tuple[Rule, ...] = (Dlight(),)
"""Rules whose candidates stand beside those of the first that matches."""

__all__ = ["BESIDE", "RULES", "apply_plain"]
