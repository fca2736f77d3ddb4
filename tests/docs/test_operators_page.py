"""The page of core operators: complete, and true of those that are tried here."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch
from core_operators import NOT_CALLED, core_operators, samples

DOCS = Path(__file__).resolve().parents[2] / "docs"
sys.path.insert(0, str(DOCS))

import list_operators  # noqa: E402

EACH = 8
"""Of so many operators one is tried: all take a minute."""

ROW = re.compile(r"^\| `(?P<name>\S+)` \| (?P<words>.*) \| (?P<converter>.*) \|$", re.MULTILINE)


def rows() -> dict[str, str]:
    """Return the rows of the page by their operators."""
    text = list_operators.PAGE.read_text(encoding="utf-8")
    return {each["name"]: each[0] for each in ROW.finditer(text)}


def test_every_core_operator_has_a_call_or_a_reason() -> None:
    called = {each.operator for each in samples()}
    assert called & NOT_CALLED.keys() == set()
    assert sorted(called | NOT_CALLED.keys()) == sorted(core_operators())


def test_the_page_has_every_core_operator_of_this_pytorch() -> None:
    assert list(rows()) == core_operators()
    text = list_operators.PAGE.read_text(encoding="utf-8")
    assert f"of version {torch.__version__.partition('+')[0]}." in text


@pytest.mark.parametrize("first", range(0, EACH, EACH // 2))
def test_rows_are_true(first: int) -> None:
    chosen = core_operators()[first::EACH]
    tried = [each for each in samples() if each.operator in chosen]
    found = list(list_operators.outcomes(tried, list_operators.listed_as_refused()))
    written = rows()
    for row in ROW.finditer(list_operators.page(found)):
        if row["name"] in chosen:
            assert written[row["name"]] == row[0], "run python docs/list_operators.py"


def test_a_refused_operator_is_seen() -> None:
    (sample,) = [each for each in samples() if each.operator == "sort.default"]
    (outcome,) = list_operators.outcomes([sample], ())
    assert outcome.refused.startswith("there is no kernel for operator 'sort.default';")
