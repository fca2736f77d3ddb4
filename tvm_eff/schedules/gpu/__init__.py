"""Design spaces of GPUs: each rule binds loops to work-groups and work-items of OpenCL."""

from tvm_eff.schedules.gpu.depthwise import GpuDepthwise
from tvm_eff.schedules.gpu.elementwise import GpuElementwise
from tvm_eff.schedules.gpu.fallback import Dlight, GpuFallback, apply_default
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
"""In order of precedence: the first that matches gives the space."""

EXTRA_RULES: tuple[Rule, ...] = (Dlight(),)
"""Rules whose candidates are added to those of the first matching rule."""

__all__ = ["EXTRA_RULES", "RULES", "apply_default"]
