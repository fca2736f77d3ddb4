"""Files of results: what they say of their run, and which of them are refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from result_files import COMMIT, ROOT, result_of

import results_file  # isort: skip

import tvm_eff
from tvm_eff.device.identity import local_identity
from tvm_eff.errors import UsageError

# scripts/study.py has a form of its own.
SHIPPED = sorted(
    set(results_file.RESULTS.glob("*.json")) - {results_file.RESULTS / "study-host.json"}
)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"commit": ...}, "'commit'"),
        ({"machine": {"name": "m"}}, "'words'"),
        ({"dirty": "no"}, "'dirty'"),
        ({"rows": []}, "'rows'"),
    ],
)
def test_a_file_that_does_not_say_where_it_is_from_is_refused(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "peers.json"
    result_of({"rows": []}).write(path)
    found = json.loads(path.read_text()) | change
    path.write_text(json.dumps({key: value for key, value in found.items() if value is not ...}))
    with pytest.raises(UsageError, match=rf"peers\.json.*{message}.*run the script"):
        results_file.read(path)


def test_a_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    path.write_text('{"commit": "0123')
    with pytest.raises(UsageError, match=r"peers\.json is damaged"):
        results_file.read(path)


def test_results_of_different_commits_do_not_stand_on_one_page_unless_that_is_allowed(
    tmp_path: Path,
) -> None:
    found = [tmp_path / name for name in ("peers.json", "tuning.json")]
    for path, commit in zip(found, (COMMIT, None), strict=True):
        result_of({}, commit=commit).write(path)
    with pytest.raises(UsageError) as raised:
        results_file.read_all(found, allow_mixed=False)
    assert "peers.json: commit 0123456789ab; tuning.json: commit not recorded" in str(raised.value)
    assert "--allow-mixed" in str(raised.value)
    assert list(results_file.read_all(found, allow_mixed=True)) == ["peers.json", "tuning.json"]


def test_a_run_replaces_the_file_that_is_there(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "peers.json"
    result_of({"rows": [1, 2]}).write(path)
    result_of({"rows": [3]}).write(path)
    assert results_file.read(path).data == {"rows": [3]}
    assert [each.name for each in path.parent.iterdir()] == ["peers.json"]


def test_what_json_has_no_number_for_is_null(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    result_of({}).with_data({"rows": [{"error": float("inf")}, (1.5, float("nan"))]}).write(path)
    assert results_file.read(path).data == {"rows": [{"error": None}, [1.5, None]]}


def test_a_run_says_which_code_it_ran_on_which_machine() -> None:
    found = results_file.begin(str(ROOT / "benchmarks" / "peers.py"), ["--rounds", "3"], threads=1)
    head = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    assert found.commit == (head.stdout.strip() if head.returncode == 0 else None)
    assert found.command == "python benchmarks/peers.py --rounds 3"
    assert found.machine["words"] == local_identity(1).words
    assert found.machine["features"] == local_identity(1).features
    assert found.versions["python"] == sys.version.split()[0]
    assert set(found.versions) == {"python", "tvm", "torch", "numpy"}


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=n", "-c", "user.email=e"]
    command = ["git", "-C", str(folder), *who, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a checkout with a script and a result, which the module takes for its own."""
    results = tmp_path / "benchmarks" / "results"
    results.mkdir(parents=True)
    (results / "peers.json").write_text("{}")
    (tmp_path / "benchmarks" / "peers.py").write_text("pass")
    package = tmp_path / "tvm_eff" / "__init__.py"
    monkeypatch.setattr(results_file, "ROOT", tmp_path)
    monkeypatch.setattr(results_file, "RESULTS", results)
    monkeypatch.setattr(tvm_eff, "__file__", str(package))
    return tmp_path


def test_changes_of_code_are_told_and_those_of_results_are_none(checkout: Path) -> None:
    script = checkout / "benchmarks" / "peers.py"
    assert results_file.begin(str(script), []).commit is None
    assert "commit not recorded" in results_file.begin(str(script), []).commit_words
    git(checkout, "init", "--quiet")
    git(checkout, "add", ".")
    git(checkout, "commit", "--quiet", "-m", "one")
    (checkout / "benchmarks" / "results" / "peers.json").write_text("{ }")
    (checkout / "untracked").write_text("")
    clean = results_file.begin(str(script), [])
    assert (clean.commit, clean.dirty) == (git(checkout, "rev-parse", "HEAD"), False)
    assert clean.commit is not None
    script.write_text("pass  # changed")
    changed = results_file.begin(str(script), [])
    assert changed.dirty
    assert changed.commit_words == f"commit {clean.commit[:12]} with local changes"


def test_a_package_from_another_place_than_the_script_is_refused(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tvm_eff, "__file__", "/elsewhere/tvm_eff/__init__.py")
    with pytest.raises(UsageError, match=r"imported from /elsewhere.*PYTHONPATH="):
        results_file.begin(str(checkout / "benchmarks" / "peers.py"), [])


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["--output", "/home/me/out"], "--output out"),
        (["--logs=/home/me/logs", "a b"], "--logs=logs 'a b'"),
        (["--logs", str(ROOT / "tuning_logs" / "x")], "--logs tuning_logs/x"),
        (["--input-shape", "1,3,8,8", "a/b"], "--input-shape 1,3,8,8 a/b"),
        (["--pass", "--logs /home/me/logs -v"], "--pass '--logs logs -v'"),
    ],
)
def test_a_command_is_told_as_it_was_typed_but_for_paths_of_this_machine(
    typed: list[str], told: str
) -> None:
    script = str(ROOT / "benchmarks" / "peers.py")
    assert results_file.command_line(script, typed) == f"python benchmarks/peers.py {told}"


def test_the_sentence_beside_a_table_names_commit_machine_day_and_command() -> None:
    assert result_of({}).provenance == (
        "Commit 0123456789ab, m (2 threads), 2026-01-01, `python benchmarks/some.py --rounds 3`."
    )
    before = result_of({}, commit=None, dirty=None, command=None, note="joined from several runs")
    assert before.provenance == (
        "Commit not recorded, m (2 threads), 2026-01-01; joined from several runs."
    )


@pytest.mark.parametrize("path", SHIPPED, ids=[path.name for path in SHIPPED])
def test_results_that_ship_say_where_they_are_from(path: Path) -> None:
    found = results_file.read(path)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", found.date)
    if found.commit is None:
        assert "before results named their commit" in found.note
        return
    assert re.fullmatch("[0-9a-f]{40}", found.commit)
    assert found.command is not None and found.versions and found.dirty is not None


# replay.py's hashes compare two states of the code, and are no result.
SCRIPTS = [
    path
    for path in sorted((ROOT / "benchmarks").glob("*.py"))
    if path.stem not in ("results_file", "replay")
]


@pytest.mark.parametrize("path", SCRIPTS, ids=[path.stem for path in SCRIPTS])
def test_no_script_writes_a_result_by_itself(path: Path) -> None:
    source = path.read_text()
    assert "json.dump(" not in source
    assert not re.search(r"write_text\(\s*json", source)
