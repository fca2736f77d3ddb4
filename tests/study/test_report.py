"""What a reader sees, of results that nobody measured."""

from __future__ import annotations

import io
import json
import math
from fractions import Fraction
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from made_up import FULL, HALF, SLOWER, comparison, instructions, study
from matplotlib.text import Text
from rich.console import Console, RenderableType

from study import LayerShape, Study, report, require_writable, write
from study.plot import plot
from tvm_eff.errors import UsageError

EMULATED = study(instructions(HALF), instructions(SLOWER), unit="instructions", load=None)


def shown(renderable: RenderableType) -> str:
    text = io.StringIO()
    Console(file=text, width=170).print(renderable)
    return text.getvalue()


def row_of(page: str, start: str) -> list[str]:
    (line,) = [line for line in page.splitlines() if line.startswith(start)]
    return [cell.strip() for cell in line.strip("|").split("|")]


def texts_of(found: Study) -> list[str]:
    return [each.get_text() for each in plot(found).findobj(Text)]


def test_table() -> None:
    lines = shown(report.table(study(HALF, SLOWER, FULL))).splitlines()

    def cells(layer: str) -> list[str]:
        (line,) = [line for line in lines if line.strip().startswith(layer)]
        return line.split("@28")[1].split()[:7]

    assert cells("separable") == ["8.00x", "=", "4.000", "1.000", "4.00x", "4%", "50%"]
    assert cells("topological") == ["8.00x", "=", "4.000", "8.000", "0.50x", "4%", "6%"]
    assert cells("fire module") == ["8.00x", "=", "4.000", "0.500", "8.00x", "4%", "100%"]


def test_page() -> None:
    page = report.markdown(study(HALF, SLOWER, FULL))
    assert row_of(page, "| separable | 64-128")[2:] == [
        "8.00x", "=", "4.000", "1.000", "4.00x", "4%", "50%", "2.00", "1.00", "conv 1x1 (75%)",
    ]  # fmt: skip
    assert "In 1 of 3 pairs the factorized layer costs more" in page
    assert "the standard one: topological 64-128 3x3 @28." in page
    assert "a machine, 2026-11-23" in page
    assert "(study.png)" in page
    for line in page.splitlines():
        assert not line.startswith("|") or line.endswith("|")


def test_summary_is_median_and_range() -> None:
    other = comparison(shape=LayerShape(8, 8, 8), factorized=FULL.factorized)
    page = report.markdown(study(HALF, other, comparison(shape=LayerShape(9, 9, 9))))
    assert row_of(page, "| separable | 3") == [
        "separable", "3", "8.00x (8.00x to 8.00x)", "4.00x (4.00x to 8.00x)", "50% (50% to 100%)",
    ]  # fmt: skip


def test_formula_that_does_not_hold_is_told_with_its_reason() -> None:
    page = report.markdown(study(comparison(ratio=Fraction(1, 9))))
    assert row_of(page, "| separable | 64-128")[3] == "9.00x"
    assert "- separable 64-128 3x3 @28: borders: some" in page
    assert "borders" not in report.markdown(study(HALF))


def test_instructions_are_called_no_speed_up() -> None:
    everything = [
        shown(report.table(EMULATED)),
        shown(report.summary(EMULATED)),
        report.markdown(EMULATED),
        *report.legend(EMULATED),
        *texts_of(EMULATED),
    ]
    words = "\n".join(everything).replace("no speed-up follows", "")
    assert "instruction ratio" in words
    for wrong in ("speed-up", "slower", "faster", " ms", "GMAC/s", "rounds"):
        assert wrong not in words
    assert row_of(report.markdown(EMULATED), "| separable | 64-128")[4:7] == [
        "4.00", "1.00", "4.00x",
    ]  # fmt: skip


def test_a_busy_machine_is_told() -> None:
    assert "load average 1.7" in "\n".join(report.legend(study(HALF, load=1.7)))
    assert "load average" not in "\n".join(report.legend(study(HALF, load=0.1)))


def test_plot_has_a_point_where_it_belongs() -> None:
    scatter = plot(study(HALF, SLOWER, FULL)).axes[0]
    points = {
        container.get_label(): tuple(map(float, container[0].get_xydata()[0]))
        for container in scatter.containers
    }
    assert points["separable"] == pytest.approx((8, 4))
    assert points["topological"] == pytest.approx((8, 0.5))
    assert points["fire module"] == pytest.approx((8, 8))
    assert scatter.get_xlim() == scatter.get_ylim()


def test_plot_says_where_a_layer_is_slower() -> None:
    assert "slower than the standard layer" in texts_of(study(HALF))
    assert "more instructions than the standard layer" in texts_of(EMULATED)


def test_plot_shows_what_was_delivered_of_every_pair() -> None:
    wide = comparison(shape=LayerShape(8, 8, 8))
    grid = plot(study(HALF, SLOWER, wide)).axes[1]
    values = grid.images[0].get_array()
    assert isinstance(values, np.ma.MaskedArray)
    delivered = values.filled(math.nan)
    assert delivered[0] == pytest.approx([0.5, 0.5])
    assert delivered[1][0] == pytest.approx(1 / 16)
    assert math.isnan(delivered[1][1]), "it was not measured there"
    assert [each.get_text() for each in grid.texts] == ["50%", "50%", "6%\n(slower)"]


def test_files(tmp_path: Path) -> None:
    found = study(HALF, SLOWER)
    paths = write(found, tmp_path)
    assert [path.name for path in paths] == ["study.json", "study.md", "study.png"]
    assert json.loads(paths[0].read_text()) == json.loads(json.dumps(found.as_dict()))
    picture = matplotlib.image.imread(paths[2])
    assert picture.shape[0] > 400 and picture.std() > 0.05


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot write to the output folder .*file.*--output"):
        require_writable(tmp_path / "file")


@pytest.mark.parametrize("name", report.FILES)
def test_file_that_cannot_be_replaced(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(UsageError, match=rf"cannot write .*directory.*{name}.*--output"):
        require_writable(tmp_path)


def test_files_of_an_earlier_study_are_left_until_there_are_new_ones(tmp_path: Path) -> None:
    paths = write(study(HALF), tmp_path)
    before = [path.read_bytes() for path in paths]
    require_writable(tmp_path)
    assert [path.read_bytes() for path in paths] == before
    assert sorted(tmp_path.iterdir()) == sorted(paths)
