"""The conformance suite sees what is wrong with a device."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

DEVICES = '''
import itertools
import subprocess
from dataclasses import replace

import numpy as np
import pytest

from tvm_eff import targets
from tvm_eff.device import LocalDevice, Measurement
from tvm_eff.errors import ExecutionError
from tvm_eff.testing import DeviceConformance


class Zeroing(LocalDevice):
    """Outputs that nothing was written to look like zeros."""

    def call(self, *args, **options):
        outputs, cost = super().call(*args, **options)
        return [np.nan_to_num(each) for each in outputs], cost


class Forgetful(LocalDevice):
    """It sends again what it was to keep."""

    def call(self, *args, keep=False, **options):
        return super().call(*args, **options)


class Moody(LocalDevice):
    """Each connection is to another machine."""

    numbers = itertools.count()

    def open(self):
        super().open()
        self.number = next(self.numbers)

    @property
    def identity(self):
        return replace(super().identity, name=f"machine {self.number}")


class Leaking(LocalDevice):
    """A process of its own is left behind."""

    def close(self):
        super().close()
        subprocess.Popen(["sleep", "20"])


class Confusing(LocalDevice):
    """Compared libraries are told apart wrongly."""

    def compare(self, *args, **options):
        return super().compare(*args, **options)[::-1]


class Boasting(LocalDevice):
    """It claims that a cost repeats."""

    numbers = itertools.count(1)
    repeatable = True

    def call(self, *args, **options):
        outputs, cost = super().call(*args, **options)
        return outputs, cost and Measurement((float(next(self.numbers)),), "seconds")


class Fragile(LocalDevice):
    """A crash ends it for good."""

    def call(self, *args, **options):
        try:
            return super().call(*args, **options)
        except ExecutionError:
            self.close()
            raise


KINDS = [Zeroing, Forgetful, Moody, Leaking, Confusing, Boasting, Fragile]


@pytest.mark.parametrize("kind", KINDS, ids=[kind.__name__ for kind in KINDS])
class TestIt(DeviceConformance):
    @pytest.fixture
    def make_device(self, kind):
        return lambda timeout: kind(threads=1, timeout=timeout)

    @pytest.fixture
    def target(self):
        return targets.load("host")
'''


SEEN_BY = {
    "Zeroing": "test_function_that_writes_nothing_is_seen",
    "Forgetful": "test_kept_inputs_are_not_sent_again",
    "Moody": "test_health_and_an_identity_that_stays",
    "Leaking": "test_nothing_is_left_open_or_running",
    "Confusing": "test_libraries_that_take_turns",
    "Boasting": "test_what_is_repeatable_costs_the_same_each_time",
    "Fragile": "test_error_raised_by_the_code_is_told",
}
UNDISTURBED = "test_relax_module_with_one_output"


def run_pytest(folder: Path, text: str, *tests: str) -> str:
    """Run tests of a file with this text; return what is printed."""
    (folder / "test_it.py").write_text(text)
    removed = "error::pytest.PytestRemovedIn10Warning"
    options = ["-W", removed, "-p", "no:cacheprovider", "-p", "no:xdist", "-vv", "--tb=line"]
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "--rootdir", str(folder), *tests],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def test_each_defect_is_seen(tmp_path: Path) -> None:
    tests = [
        f"test_it.py::TestIt::{test}[{kind}]"
        for kind, seen_by in SEEN_BY.items()
        for test in (seen_by, UNDISTURBED)
    ]
    printed = run_pytest(tmp_path, DEVICES, *tests)
    for kind, seen_by in SEEN_BY.items():
        assert re.search(rf"{seen_by}\[{kind}\] .*FAILED", printed), printed
        assert re.search(rf"{UNDISTURBED}\[{kind}\] .*PASSED", printed), printed


def test_class_without_a_device(tmp_path: Path) -> None:
    text = "from tvm_eff.testing import DeviceConformance\nclass TestIt(DeviceConformance): pass\n"
    printed = run_pytest(tmp_path, text, "-k", "missing")
    assert "TestIt must have a fixture 'make_device'" in printed


def test_without_pytest() -> None:
    code = "import sys; sys.modules['pytest'] = None; import tvm_eff.testing"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "SetupError: tvm_eff.testing needs the package 'pytest'" in done.stderr
