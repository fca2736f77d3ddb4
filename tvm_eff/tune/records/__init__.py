"""Tuning records on disk: what was measured where, and the schedules that won."""

from tvm_eff.tune.records.record import Record
from tvm_eff.tune.records.store import RecordStore

__all__ = ["Record", "RecordStore"]
