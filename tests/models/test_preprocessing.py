"""An image's preparation within the network, against the same by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import tvm_eff
from tvm_eff.errors import UsageError
from tvm_eff.models import Network, Preprocessing, network_of
from tvm_eff.models.preprocessing import preprocessed
from tvm_eff.tensors import TensorSpec

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WORDS = "mean=0.485,0.456,0.406,std=0.229,0.224,0.225,layout=NHWC,dtype=uint8"


class Net(nn.Module):
    """It takes an image and one number more."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Conv2d(3, 8, 3, stride=2)

    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return self.body(x).mean((2, 3)) + bias


def network(preprocess: str | Preprocessing) -> Network:
    specs = TensorSpec((2, 3, 9, 7), "float32"), TensorSpec((1,), "float32")
    chosen = (
        preprocess if isinstance(preprocess, Preprocessing) else Preprocessing.parse(preprocess)
    )
    return preprocessed(Network("net", Net().eval(), specs), chosen)


def test_words_and_numbers_are_the_same() -> None:
    found = Preprocessing.parse(WORDS)
    assert found == Preprocessing(MEAN, STD, layout="NHWC", dtype="uint8")
    assert Preprocessing.parse("dtype=float32, std=2") == Preprocessing(std=(2,), dtype="float32")
    assert Preprocessing.parse("scale=0.5").scale == 0.5


def test_as_by_hand() -> None:
    made = network(WORDS)
    assert made.inputs[0] == TensorSpec((2, 9, 7, 3), "uint8")
    assert made.inputs[1] == TensorSpec((1,), "float32")
    image = torch.randint(0, 256, (2, 9, 7, 3), dtype=torch.uint8)
    bias = torch.ones(1)
    mean, std = (torch.tensor(each) for each in (MEAN, STD))
    by_hand = ((image / 255 - mean) / std).permute(0, 3, 1, 2)
    assert isinstance(made.module, nn.Module)
    assert torch.allclose(made.module(image, bias), Net()(by_hand, bias), atol=1e-5)


def test_floats_are_not_scaled() -> None:
    made = network("layout=NCHW,dtype=float32,mean=2")
    image, bias = torch.rand(2, 3, 9, 7), torch.zeros(1)
    assert isinstance(made.module, nn.Module)
    assert torch.allclose(made.module(image, bias), Net()(image - 2, bias), atol=1e-6)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("meen=1", "key is 'meen'; did you mean 'mean'"),
        ("0.5,0.5", "'0.5,0.5' is no preprocessing; write it as mean="),
        ("", "'' is no preprocessing"),
        ("mean=1,mean=2", "'mean' stands twice"),
        ("mean=a,b", "mean is 'a,b'; give numbers"),
        ("std=1,0,1", "must not be 0"),
        ("mean=nan", "must be finite"),
        ("scale=1,2", "scale has 2 values; give one"),
        ("layout=HWC", "layout is 'HWC'; did you mean 'NHWC'"),
        ("dtype=int8", "dtype is 'int8'; did you mean 'uint8'"),
        ("mean=1,2", "mean has 2 values, and the model's image 3 channels; give one or 3"),
    ],
)
def test_what_is_wrong_with_it(words: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        network(words)


@pytest.mark.parametrize("spec", [TensorSpec((4, 3), "float32"), TensorSpec((1, 3, 4, 4), "int64")])
def test_a_model_without_an_image(spec: TensorSpec) -> None:
    with pytest.raises(UsageError, match=r"first input is an image, .* this one takes"):
        preprocessed(Network("net", Net(), (spec,)), Preprocessing())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": 0.5}, "mean is a float; give a tuple or a list"),
        ({"std": None}, "std is a NoneType"),
        ({"mean": ("a",)}, "a value of the preprocessing's mean is a str; give a number"),
        ({"scale": "x"}, "scale is a str; give a number or None"),
        ({"layout": 3}, "layout is a int; give a string"),
    ],
)
def test_values_of_other_types(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Preprocessing(**options)


def test_preprocessing_of_another_type() -> None:
    with pytest.raises(UsageError, match="preprocess is a int; give a string or Preprocessing"):
        tvm_eff.compile(Net().eval(), preprocess=5)  # type: ignore[arg-type]


def test_the_users_module_stays_as_it_is() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Dropout())
    module.train()
    module[0].eval()
    preprocessed(Network("net", module, (TensorSpec((1, 3, 4, 4), "float32"),)), Preprocessing())
    assert [each.training for each in module.modules()] == [True, False, True]


def test_a_saved_program() -> None:
    program = torch.export.export(nn.Conv2d(3, 2, 1), (torch.ones(1, 3, 4, 4),))
    made = Network("net", program, (TensorSpec((1, 3, 4, 4), "float32"),))
    with pytest.raises(UsageError, match="preprocessing is for modules; a saved program takes"):
        preprocessed(made, Preprocessing())


def test_a_model_of_the_zoo_by_its_name() -> None:
    found = network_of(
        "squeezenet1_1",
        None,
        None,
        input_shapes=[],
        input_dtypes=[],
        weights=None,
        width=None,
        resolution=None,
        preprocess=WORDS,
    )
    assert found.inputs == (TensorSpec((1, 224, 224, 3), "uint8"),)


def test_a_library_takes_a_cameras_bytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.integers(0, 256, (1, 9, 7, 3), dtype=np.uint8))
    body = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Flatten())
    made = tvm_eff.compile(
        body.eval(),
        image,
        preprocess=WORDS,
        logs=tmp_path / "logs",
        output=tmp_path / "dist",
        measure=False,
    )
    (entry,) = made.manifest.inputs
    assert (entry.name, entry.shape, entry.dtype) == ("image", (1, 9, 7, 3), "uint8")
    mean, std = (torch.tensor(each) for each in (MEAN, STD))
    by_hand = body(((image / 255 - mean) / std).permute(0, 3, 1, 2)).detach().numpy()
    found = tvm_eff.load(made.folder)(image.numpy())
    assert np.abs(np.asarray(found) - by_hand).max() < 1e-5
