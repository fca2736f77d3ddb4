"""``records``: what is on record as a table and as JSON, and what is left of it to ship."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tvm_eff.cli import records


def write(logs: Path, target: str, count: int) -> None:
    """Write records of one workload as a session does."""
    folder = logs / target / "instructions"
    folder.mkdir(parents=True)
    line = {
        "target": target,
        "workload": "1",
        "task": "conv",
        "unit": "instructions",
        "failure": None,
        "error": 0.0,
        "device": {"kind": "emulated", "where": "an emulated board", "cpu": "c"},
        "versions": {"tvm": "0.27"},
    }
    rows = [
        {**line, "candidate": {"rule": "tile", "rows": n}, "values": [100.0 + n]}
        for n in range(1, count + 1)
    ]
    rows.append({**line, "candidate": {"rule": "unscheduled"}, "values": [900.0]})
    (folder / "measurements.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list"], "holds no records"),
        (["prune", "--target", "rasp4"], "holds no records"),
        (["prune", "--target", "rasp44"], "rasp44"),
    ],
)
def test_mistakes_are_one_message(
    arguments: list[str], message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert records.main([*arguments, "--logs", str(tmp_path)]) == 2
    out, err = capfd.readouterr()
    assert out == "" and err.startswith("error: ") and message in err


@pytest.mark.parametrize("target", ["rasp4", "host-avx2"])
def test_pruned(target: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    logs, output = tmp_path / "logs", tmp_path / "shipped"
    write(logs, target, 9)
    words = ["prune", "--target", target, "--logs", str(logs), "--output", str(output), "--json"]
    assert records.main([*words, "--keep", "2"]) == 0
    (row,) = json.loads(capfd.readouterr().out)
    assert (row["target"], row["workloads"], row["candidates"], row["pruned"]) == (target, 1, 3, 7)

    assert records.main(["list", "--logs", str(output)]) == 0
    (line,) = [each for each in capfd.readouterr().out.splitlines() if target in each]
    size = (output / target / "instructions" / "measurements.jsonl").stat().st_size
    assert line.split() == f"{target} instructions 1 3 7 {size:,} an emulated board".split()
