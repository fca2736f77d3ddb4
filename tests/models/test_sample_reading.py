"""A user's own data is read as it is meant, or refused with a message."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tvm_eff.errors import ModelError, UsageError
from tvm_eff.models import read_samples
from tvm_eff.models.samples import Sample
from tvm_eff.tensors import TensorSpec

BYTES = TensorSpec((1, 4, 6, 3), "uint8")
FLOATS = TensorSpec((1, 3), "float32")
PAIR = (FLOATS, TensorSpec((2,), "int64"))


def read(data: Any, *specs: TensorSpec) -> list[Sample]:
    names = ("x", "y")[: len(specs)]
    return list(read_samples(data, specs, names))


def picture(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (12, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "there is no data .*nothing; give a folder of images, an .npz or .npy file"),
        ("empty", "empty holds no samples"),
        ("text.txt", "text.txt is no data that can be read"),
        ("torn.npz", "torn.npz cannot be read as arrays"),
        ("torn.npy", "torn.npy cannot be read as arrays"),
    ],
)
def test_what_is_no_data(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("x")
    (tmp_path / "torn.npz").write_bytes(b"PK\x03\x04torn")
    (tmp_path / "torn.npy").write_bytes(b"\x93NUMPY\x01\x00torn")
    with pytest.raises(UsageError, match=message):
        read(tmp_path / name, BYTES)


def test_one_array_of_samples(tmp_path: Path) -> None:
    rows = np.arange(6, dtype="float32").reshape(2, 3)
    np.save(tmp_path / "rows.npy", rows)
    found = read(tmp_path / "rows.npy", FLOATS)
    assert [each.inputs[0].tolist() for each in found] == [[row] for row in rows.tolist()]
    with pytest.raises(UsageError, match=r"rows.npy holds rows; name an array for each input"):
        read(tmp_path / "rows.npy", *PAIR)


def test_data_of_another_type() -> None:
    with pytest.raises(UsageError, match="the validation data is a int"):
        read(5, BYTES)


@pytest.mark.parametrize("specs", [(FLOATS,), (BYTES, BYTES), (TensorSpec((2, 4, 6, 3), "uint8"),)])
def test_images_for_another_model(tmp_path: Path, specs: tuple[TensorSpec, ...]) -> None:
    picture(tmp_path / "a.png", (1, 2, 3))
    with pytest.raises(UsageError, match=r"takes one image of bytes; .*--preprocess"):
        read(tmp_path, *specs)


def test_a_torn_image(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", (1, 2, 3))
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match=r"a\.png cannot be read as an image"):
        read(tmp_path, BYTES)


def test_images_without_classes(tmp_path: Path) -> None:
    picture(tmp_path / "b.PNG", (1, 2, 3))
    picture(tmp_path / "a.jpg", (9, 9, 9))
    (tmp_path / "notes.txt").write_text("not an image")
    found = read(tmp_path, BYTES)
    assert [(each.name, each.label) for each in found] == [("a.jpg", None), ("b.PNG", None)]
    (pixels,) = found[1].inputs
    assert (pixels.shape, str(pixels.dtype)) == (BYTES.shape, "uint8")
    assert (pixels == [1, 2, 3]).all()


def test_folders_are_classes_in_either_layout(tmp_path: Path) -> None:
    for number, name in enumerate(("zebra", "ant")):
        picture(tmp_path / name / "1.png", (number, 0, 7))
    found = read(tmp_path, TensorSpec((1, 3, 4, 6), "uint8"))
    assert [each.name for each in found] == ["ant/1.png", "zebra/1.png"]
    assert [each.label.tolist() for each in found if each.label is not None] == [[0], [1]]
    assert found[0].inputs[0][0, :, 0, 0].tolist() == [1, 0, 7]


def test_grey_images(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", (50, 50, 50))
    (only,) = read(tmp_path, TensorSpec((1, 4, 6, 1), "uint8"))
    assert (only.inputs[0] == 50).all()


ROWS = np.arange(15, dtype="float32").reshape(5, 3)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "holds nothing; name an array for each input, x"),
        ({"a": ROWS, "b": ROWS}, "holds a, b; name an array"),
        ({"x": ROWS.astype("float64")}, "is 5 x 3 float64; give samples of 1 x 3 float32"),
        ({"x": ROWS[:, :2]}, "is 5 x 2 float32"),
        ({"x": np.float32(1)}, "is one float32"),
        ({"x": ROWS, "labels": np.arange(4)}, "have 4, 5 samples"),
        ({"x": ROWS, "labels": np.zeros(5)}, "label 0 is of float64; give the number of a class"),
        ({"x": np.array([None])}, "cannot be read as arrays"),
    ],
)
def test_wrong_arrays(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(UsageError, match=message):
        read(tmp_path / "data.npz", FLOATS)


def test_arrays_with_and_without_a_batch(tmp_path: Path) -> None:
    np.savez(tmp_path / "plain.npz", ROWS)
    np.savez(tmp_path / "batch.npz", x=ROWS[:, None], labels=np.arange(5))
    plain, batch = read(tmp_path / "plain.npz", FLOATS), read(tmp_path / "batch.npz", FLOATS)
    for number, each in enumerate(batch):
        np.testing.assert_array_equal(each.inputs[0], ROWS[None, number])
        np.testing.assert_array_equal(plain[number].inputs[0], each.inputs[0])
        assert each.label == number
        assert plain[number].label is None


def test_several_inputs_by_name(tmp_path: Path) -> None:
    places = np.arange(10).reshape(5, 2)
    np.savez(tmp_path / "data.npz", y=places, x=ROWS, unused=np.ones(1))
    found = read(tmp_path / "data.npz", *PAIR)
    np.testing.assert_array_equal(found[3].inputs[1], places[3])


def yields(*elements: Any) -> Callable[[], Iterator[Any]]:
    return lambda: iter(elements)


X = ROWS[:1]


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ([], "holds no samples"),
        ([X, X[0]], "sample 1 .* is 3 float32; the network takes 1 x 3 float32"),
        ([(X, X, X)], "has 3 arrays; give 1, and a label"),
        ([(X, 0.5)], "the label of sample 0 .* is of float64"),
        ([X.astype("float16")], "is 1 x 3 float16"),
    ],
)
def test_wrong_elements(elements: list[Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read(yields(*elements), FLOATS)


def test_a_function_that_fails_later() -> None:
    def load() -> Iterator[np.ndarray]:
        yield X
        raise KeyError("lost")

    with pytest.raises(
        UsageError, match=r"load failed: KeyError: 'lost' \(.*test_sample_reading\.py"
    ):
        read(load, FLOATS)


def test_a_function_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "data.py"
    file.write_text("import numpy\ndef load():\n    yield numpy.ones((1, 3), 'f4'), 7\nnone = 3\n")
    (only,) = read(f"{file}:load", FLOATS)
    assert only.label == 7
    with pytest.raises(UsageError, match="is a int; name a function"):
        read(f"{file}:none", FLOATS)
    with pytest.raises(ModelError, match="has no 'laod'; did you mean 'load'"):
        read(f"{file}:laod", FLOATS)


def test_lists_and_tensors_are_arrays() -> None:
    import torch

    found = read(yields([torch.ones(1, 3), [1, 2]]), *PAIR)
    assert found[0].inputs[1].tolist() == [1, 2]
