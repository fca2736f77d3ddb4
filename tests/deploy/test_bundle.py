"""A bundle is whole, undamaged and of this format, or it is refused with a reason."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_bundles import MEASURED, VALIDATION, Maker, tensor

from tvm_eff import targets
from tvm_eff.deploy import bundle, bundle_writer, manifest
from tvm_eff.deploy.bundle import Golden
from tvm_eff.errors import BundleError


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "manifest.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_no_such_folder_names_the_bundles_beside_it(maker: Maker, tmp_path: Path) -> None:
    maker.write(tmp_path / "scale-host")
    with pytest.raises(BundleError, match=r"no bundle .*scale-hots.*scale-host$"):
        bundle.read(tmp_path / "scale-hots")


def test_a_folder_that_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"is not a bundle: it has no manifest\.json"):
        bundle.read(tmp_path)


def test_an_archive_is_to_be_unpacked_first(maker: Maker, tmp_path: Path) -> None:
    maker.write(tmp_path / "b", archive=True)
    with pytest.raises(BundleError, match=r"is a file.*tar xf .*b\.tar\.gz"):
        bundle.read(tmp_path / "b.tar.gz")


@pytest.mark.parametrize("name", ["model.so", "golden.npz"])
def test_missing_file(maker: Maker, tmp_path: Path, name: str) -> None:
    maker.write(tmp_path / "b")
    (tmp_path / "b" / name).unlink()
    with pytest.raises(BundleError, match=rf"b/{name}: No such file.*incomplete"):
        bundle.read(tmp_path / "b")


@pytest.mark.parametrize("name", ["model.so", "golden.npz"])
def test_one_flipped_bit(maker: Maker, tmp_path: Path, name: str) -> None:
    maker.write(tmp_path / "b")
    path = tmp_path / "b" / name
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(BundleError, match=rf"b/{name} is damaged"):
        bundle.load(tmp_path / "b")


def test_truncated_manifest(maker: Maker, tmp_path: Path) -> None:
    maker.write(tmp_path / "b")
    path = tmp_path / "b" / "manifest.json"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(BundleError, match=r"manifest\.json is damaged"):
        bundle.read(tmp_path / "b")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b'{"format": 3, "format": 3}', "the key 'format' stands twice"),
        (b"[]", "the content is \\[\\]; expected an object"),
        (b"\xff", "damaged: 'utf-8' codec can't decode"),
    ],
)
def test_damaged_manifest(maker: Maker, tmp_path: Path, content: bytes, expected: str) -> None:
    maker.write(tmp_path / "b")
    (tmp_path / "b" / "manifest.json").write_bytes(content)
    with pytest.raises(BundleError, match=rf"manifest\.json.*{expected}.*build or copy the bundle"):
        bundle.read(tmp_path / "b")


def test_later_format(maker: Maker, tmp_path: Path) -> None:
    maker.write(tmp_path / "b")
    later = manifest.FORMAT + 1
    edit_manifest(tmp_path / "b", lambda data: data.update(format=later, what_comes=[]))
    message = f"has format {later}, and this tvm_eff reads formats 1 to {manifest.FORMAT}"
    with pytest.raises(BundleError, match=message):
        bundle.read(tmp_path / "b")


def as_format_1(data: dict[str, Any]) -> None:
    """Take away what format 1 did not say."""
    as_format_2(data)
    data.update(format=1)
    del data["target"]["opencl"], data["validation"]["dtype"], data["validation"]["same_class"]


def as_format_2(data: dict[str, Any]) -> None:
    """Take away what format 2 did not say."""
    as_format_3(data)
    data.update(format=2)
    del data["inputs_anywhere"]


def as_format_3(data: dict[str, Any]) -> None:
    """Take away what format 3 did not say."""
    as_format_4(data)
    data.update(format=3)
    del data["sizes"]


def as_format_4(data: dict[str, Any]) -> None:
    """Take away what format 4 did not say."""
    as_format_5(data)
    data.update(format=4)
    del data["validation"]["operators_proved"]


def as_format_6(data: dict[str, Any]) -> None:
    """Take away what format 6 did not say, and add what it did."""
    data.update(format=6, measurement=None)
    del data["weights"], data["memory"]


def as_format_5(data: dict[str, Any]) -> None:
    """Take away what format 5 did not say."""
    as_format_6(data)
    data.update(format=5)
    for key in ("reference_errors", "half_precision_limit", "data"):
        del data["validation"][key]
    del data["kernels"]


@pytest.mark.parametrize(
    "earlier",
    [as_format_1, as_format_2, as_format_3, as_format_4, as_format_5, as_format_6],
)
def test_earlier_format(
    maker: Maker, tmp_path: Path, earlier: Callable[[dict[str, Any]], None]
) -> None:
    written = maker.write(tmp_path / "b")
    edit_manifest(tmp_path / "b", earlier)
    now = replace(bundle.read(tmp_path / "b").manifest, format=manifest.FORMAT)
    assert now.inputs_anywhere == (earlier not in (as_format_1, as_format_2))
    assert replace(now, inputs_anywhere=True, sizes=written.manifest.sizes) == written.manifest


def test_a_damaged_manifest_of_an_earlier_format(maker: Maker, tmp_path: Path) -> None:
    def damage(data: dict[str, Any]) -> None:
        as_format_1(data)
        data.update(validation=3)

    maker.write(tmp_path / "b")
    edit_manifest(tmp_path / "b", damage)
    with pytest.raises(BundleError, match="'validation' is 3; expected an object"):
        bundle.read(tmp_path / "b")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda data: data.pop("format"), "the key 'format' is missing"),
        (lambda data: data.update(format="1"), "'format' is '1'; expected an integer"),
        (
            lambda data: data["validation"].update(reference_errors=[1e-7, 1e-7]),
            "'validation.reference_errors' has 2 values for 1 outputs",
        ),
        (lambda data: data.update(modle="x"), "unknown key 'modle'; did you mean 'model'"),
        (lambda data: data["target"].pop("triple"), "the key 'target.triple' is missing"),
        (lambda data: data["inputs"][0].update(shape=[2, "3"]), r"'inputs\[0\].shape\[1\]' is '3'"),
        (lambda data: data["inputs"][0].update(shape=[2, True]), "is True; expected an integer"),
        (lambda data: data.update(outputs={}), "'outputs' is {}; expected a list"),
        (lambda data: data.update(validation=None), "'validation' is None; expected an object"),
        (lambda data: data["validation"].update(tolerance=float("nan")), "a finite number"),
        (lambda data: data["validation"].pop("dtype"), "the key 'validation.dtype' is missing"),
        (lambda data: data["validation"].update(same_class=1), "is 1; expected true or false"),
        (lambda data: data["target"].update(tvm={"mcpu": 1.5}), "'target.tvm.mcpu' is 1.5"),
        (lambda data: data["files"].update({"model.so": 1}), "'files.model.so' is 1; expected a s"),
        (
            lambda data: data["inputs"][0].update(shape=[2**63]),
            r"shape\[0\]' is 9223372036854775808",
        ),
        (lambda data: data["target"].update(opencl={}), "'target.opencl.version' is missing"),
        (lambda data: data.update(measurement=None), "unknown key 'measurement'"),
        (lambda data: data.update(memory={"arena": 1}), "the key 'memory.least' is missing"),
        (lambda data: data.update(weights=[{}]), r"the key 'weights\[0\].parameters' is missing"),
        (lambda data: data["files"].pop("model.so"), "has no hash of model.so"),
    ],
)
def test_invalid_manifest(
    maker: Maker, tmp_path: Path, change: Callable[[dict[str, Any]], object], expected: str
) -> None:
    maker.write(tmp_path / "b", measurement=MEASURED)
    edit_manifest(tmp_path / "b", change)
    with pytest.raises(BundleError, match=expected) as caught:
        bundle.read(tmp_path / "b")
    assert str(tmp_path / "b" / "manifest.json") in str(caught.value)


def test_golden_tensors_that_the_manifest_does_not_describe(maker: Maker, tmp_path: Path) -> None:
    written = maker.write(tmp_path / "b")
    edit_manifest(tmp_path / "b", lambda data: data["outputs"][0].update(shape=[3, 2]))
    with pytest.raises(BundleError, match=r"golden\.npz.*output 0 is \(2, 3\) float32"):
        bundle.read(written.folder).golden()


def test_failed_writing_keeps_the_bundle_that_was_there(maker: Maker, tmp_path: Path) -> None:
    maker.write(tmp_path / "b")
    before = files_of(tmp_path / "b")
    with pytest.raises(BundleError, match=r"cannot write the bundle .*No such file"):
        bundle_writer.write(
            tmp_path / "b",
            tmp_path / "no_library.so",
            model="scale",
            target=targets.load("host"),
            golden=Golden({"x": tensor()}, {"y": tensor()}),
            validation=VALIDATION,
        )
    assert files_of(tmp_path / "b") == before
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_files_of_someone_elses_are_not_deleted(maker: Maker, tmp_path: Path) -> None:
    notes = tmp_path / "b" / "notes.txt"
    notes.parent.mkdir()
    notes.write_text("mine")
    with pytest.raises(BundleError, match=r"holds 'notes\.txt', which is no part of a bundle"):
        maker.write(tmp_path / "b")
    assert files_of(tmp_path / "b") == {"notes.txt": b"mine"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_no_right_to_write(maker: Maker, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(BundleError, match=r"Permission denied; check the right to write"):
            maker.write(tmp_path / "b")
    finally:
        tmp_path.chmod(0o700)


def test_a_parent_that_is_a_file(maker: Maker, tmp_path: Path) -> None:
    (tmp_path / "dist").write_text("")
    with pytest.raises(BundleError, match=r"cannot write the bundle .*Not a directory"):
        maker.write(tmp_path / "dist" / "b")


def test_what_is_written_is_read(maker: Maker, tmp_path: Path) -> None:
    written = maker.write(tmp_path / "new" / "b", "rasp4", measurement=MEASURED)
    found = bundle.read(tmp_path / "new" / "b")
    assert found == written
    assert sorted(files_of(found.folder)) == [
        *("SHA256SUMS", "golden.npz", "manifest.json", "measurement.json", "model.so"),
    ]
    target = found.manifest.target
    assert (target.name, target.log_name, target.arch) == ("rasp4", "rasp4", "aarch64")
    assert target.tvm == targets.load("rasp4").tvm
    with pytest.raises(TypeError):
        target.tvm["mcpu"] = "generic"  # type: ignore[index]
    with pytest.raises(TypeError):
        found.manifest.files["model.so"] = ""  # type: ignore[index]
    assert target.emulator is not None
    assert found.measurement == MEASURED
    assert found.size == sum(map(len, files_of(found.folder).values()))
    np.testing.assert_array_equal(found.golden().inputs["x"], tensor())
    np.testing.assert_array_equal(found.golden().outputs["y"], 2 * tensor())


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "measurement.json"),
        (b"[]", "expected an object"),
        (b'{"unit": "ms", "values": [], "where": "", "date": ""}', "'unit' is 'ms'; expected"),
    ],
)
def test_a_damaged_measurement(maker: Maker, tmp_path: Path, content: bytes, expected: str) -> None:
    written = maker.write(tmp_path / "b", measurement=MEASURED)
    (written.folder / "measurement.json").write_bytes(content)
    assert bundle.read(written.folder) == written
    with pytest.raises(BundleError, match=expected) as caught:
        _ = written.measurement
    assert "remove it, as nothing else needs it" in str(caught.value)
    (written.folder / "measurement.json").unlink()
    assert written.measurement is None


def test_features_a_processor_must_have(maker: Maker, tmp_path: Path) -> None:
    a72 = maker.write(tmp_path / "rasp4", "rasp4").manifest.target.cpu_features
    a76 = maker.write(tmp_path / "rasp5", "rasp5").manifest.target.cpu_features
    assert a72 == ("asimd",)
    assert {"asimd", "asimddp", "asimdhp", "atomics"} <= set(a76)


def test_a_complete_bundle_replaces_the_last_one(maker: Maker, tmp_path: Path) -> None:
    maker.write(tmp_path / "b")
    (tmp_path / "b" / "model.so").write_bytes(b"damaged meanwhile")
    maker.write(tmp_path / "b", factor=3.0)
    np.testing.assert_array_equal(bundle.read(tmp_path / "b").golden().outputs["y"], 3 * tensor())
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_the_unpacked_archive_is_the_bundle(maker: Maker, tmp_path: Path) -> None:
    written = maker.write(tmp_path / "b", archive=True)
    with tarfile.open(bundle_writer.archive_path(tmp_path / "b")) as packed:
        packed.extractall(tmp_path / "elsewhere", filter="data")
    unpacked = bundle.read(tmp_path / "elsewhere" / "b")
    assert unpacked.manifest == written.manifest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "b.tar.gz", "elsewhere"]
