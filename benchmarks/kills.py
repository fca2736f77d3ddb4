"""Tuning that is killed at random moments: nothing lost, repeated, or left.

    python benchmarks/kills.py --kills 100

The command is started again and again with the same records, and killed, alone or with all its
processes, after a random part of the time that it takes; once it has come to its end, records
are begun anew. After each kill all lines that were on record are still there, no candidate is on
record twice, and its processes end by themselves. Of what lay in its temporary folder, and of
its semaphores, the next session leaves nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tvm_eff.cli.run import run
from tvm_eff.errors import UsageError

ROOT = Path(__file__).resolve().parent.parent
NETWORK = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Conv2d(3, 16, 3, stride=2), nn.ReLU(), nn.Conv2d(16, 32, 1), nn.ReLU(),
            nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1568, 10),
        )
"""
ENDS_WITHIN = 20.0
"""Seconds after which the processes of a killed session must be gone."""


@dataclass
class Session:
    """A command that is started again and again in one place."""

    folder: Path
    target: str
    defects: list[str] = field(default_factory=list)

    @property
    def temporary(self) -> Path:
        """Its temporary folder, for it alone."""
        return self.folder / "tmp"

    @property
    def logs(self) -> Path:
        """Its records."""
        return self.folder / "logs"

    def start(self) -> subprocess.Popen[bytes]:
        """Start it in a process group of its own."""
        self.temporary.mkdir(exist_ok=True)
        (self.folder / "net.py").write_text(NETWORK)
        words = ["--target", self.target, "--model", "net.py:Net", "--input-shape", "1,3,32,32"]
        more = ["--trials", "6", "--logs", str(self.logs), "--output", "dist"]
        return subprocess.Popen(
            [sys.executable, str(ROOT / "scripts" / "tune.py"), *words, *more],
            cwd=self.folder,
            env={**os.environ, "TMPDIR": str(self.temporary)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def whole(self) -> float:
        """Run it to its end; return how long that took in seconds."""
        began = time.monotonic()
        process = self.start()
        _, errors = process.communicate()
        if process.returncode != 0:
            raise UsageError(f"the command failed:\n{errors.decode()[-2000:]}")
        return time.monotonic() - began

    def kill_after(self, seconds: float, *, group: bool) -> bool:
        """Kill it after some seconds; return whether it had not ended before."""
        before = self.lines()
        process = self.start()
        try:
            process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            started = [process.pid, *(each.pid for each in _descendants(process.pid))]
            (os.killpg if group else os.kill)(process.pid, signal.SIGKILL)
            process.wait()
            self._check(before, started)
            return True
        if process.returncode != 0:
            self.defects.append(f"it ended with exit code {process.returncode}")
        return False

    def lines(self) -> list[str]:
        """Return the whole lines on record."""
        text = "".join(each.read_text() for each in self.logs.glob("*/*/measurements.jsonl"))
        return [line for line in text.split("\n")[:-1] if line]

    def repeated(self) -> list[str]:
        """Return the candidates that are on record twice, but for comparisons side by side."""
        found = [json.loads(line) for line in self.lines()]
        counts = Counter(
            f"{each['workload']} {each['candidate']}"
            for each in found
            if each["kind"] == "measurement" and len(each["values"]) < 7
        )
        return [name for name, count in counts.items() if count > 1]

    def left(self) -> list[str]:
        """Return what lies in its temporary folder, and semaphores of sessions that are dead."""
        semaphores = Path("/dev/shm").glob("sem.tvm_eff-*")
        return [each.name for each in (*self.temporary.iterdir(), *semaphores)]

    def _check(self, before: Sequence[str], started: Sequence[int]) -> None:
        now = self.lines()
        if now[: len(before)] != list(before):
            self.defects.append(f"of {len(before)} lines on record {len(now)} are left")
        self.defects += [f"on record twice: {each}" for each in self.repeated()]
        end = time.monotonic() + ENDS_WITHIN
        while alive := [pid for pid in started if psutil.pid_exists(pid)]:
            if time.monotonic() > end:
                names = [" ".join(psutil.Process(pid).cmdline())[:80] for pid in alive]
                self.defects.append(f"processes that did not end: {names}")
                return
            time.sleep(0.1)


def main(argv: list[str] | None = None) -> int:
    """Kill sessions and say what was lost, repeated or left."""
    return run(_main, argv)


def _main(argv: list[str] | None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100, metavar="N", help="of each target")
    parser.add_argument("--target", nargs="+", default=["host", "rasp4"])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    defects = []
    for target in arguments.target:
        found = kill(target, arguments.kills, arguments.seed)
        print(f"{target}: {arguments.kills} kills, {len(found)} defects", flush=True)
        defects += [f"{target}: {each}" for each in found]
    if defects:
        raise UsageError("defects found:\n" + "\n".join(defects))


def kill(target: str, kills: int, seed: int) -> list[str]:
    """Kill a target's sessions at random moments and return what was wrong."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        session = Session(Path(folder), target)
        seconds = session.whole()
        shutil.rmtree(session.logs)
        done = 0
        while done < kills:
            after = chance.uniform(0, 1.1 * seconds)
            if session.kill_after(after, group=chance.random() < 0.5):
                done += 1
            else:
                shutil.rmtree(session.logs)
        session.whole()
        session.defects += [f"on record twice: {each}" for each in session.repeated()]
        session.defects += [f"left: {each}" for each in session.left()]
        return session.defects


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


if __name__ == "__main__":
    sys.exit(main())
