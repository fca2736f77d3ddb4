"""Tuning: build candidates, measure them on a device, check them, record the winners."""

from tvm_eff.tune.builder import preload
from tvm_eff.tune.options import Progress, TuneOptions
from tvm_eff.tune.records.store import Record, RecordStore
from tvm_eff.tune.session import TaskResult, tune, winners
from tvm_eff.tune.task import Task, extract
from tvm_eff.tune.weight_bound import added_bytes, within_bound
from tvm_eff.tune.worker import leave_script

__all__ = [
    "Progress",
    "Record",
    "RecordStore",
    "Task",
    "TaskResult",
    "TuneOptions",
    "added_bytes",
    "extract",
    "leave_script",
    "preload",
    "tune",
    "winners",
    "within_bound",
]
