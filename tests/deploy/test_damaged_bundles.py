"""Whatever lies in a bundle's folder, it is read to its end, or refused with the file's name."""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_bundles import Maker, tensor

import tvm_eff
from tvm_eff.deploy import bundle
from tvm_eff.errors import BundleError

FILES = ("model.so", "golden.npz", "manifest.json")


@pytest.fixture
def folder(maker: Maker, tmp_path: Path) -> Path:
    return maker.write(tmp_path / "b").folder


def refusal(folder: Path) -> str:
    with pytest.raises(BundleError) as raised:
        tvm_eff.load(folder)
    return str(raised.value)


def with_golden(folder: Path, content: bytes) -> Path:
    """Put other golden outputs in the place of the bundle's, as if it had been made with them."""
    path = folder / "golden.npz"
    path.write_bytes(content)
    manifest = folder / "manifest.json"
    data = json.loads(manifest.read_text())
    data["files"]["golden.npz"] = hashlib.sha256(content).hexdigest()
    data["sizes"]["golden.npz"] = len(content)
    manifest.write_text(json.dumps(data))
    return folder


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("left", [0, 1, 400])
def test_cut_short(name: str, left: int, folder: Path) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes()[:left])
    message = refusal(folder)
    assert name in message
    if name != "manifest.json":
        assert f"it has {left} bytes, and the manifest says" in message


@pytest.mark.parametrize("name", FILES)
def test_larger_than_the_manifest_says(name: str, folder: Path) -> None:
    # Sparse: to read it all would take long.
    os.truncate(folder / name, 1 << 36)
    assert name in refusal(folder)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "link to nothing"])
def test_no_regular_file(name: str, kind: str, folder: Path) -> None:
    path = folder / name
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(folder / "nowhere")
    message = refusal(folder)
    assert name in message


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("x" * 5000, "File name too long"),
        ("a\0b", "there is no bundle"),
        (7, "the bundle is a int"),
        (None, "the bundle is a NoneType"),
        (["b"], "the bundle is a list"),
        ("", "is not a bundle"),
    ],
)
def test_no_name_of_a_folder(given: object, expected: str) -> None:
    with pytest.raises(BundleError, match=expected) as raised:
        tvm_eff.load(given)  # type: ignore[arg-type]
    assert len(str(raised.value)) < 1000


def test_a_manifest_nested_too_deeply(folder: Path) -> None:
    (folder / "manifest.json").write_text("[" * 100_000 + "]" * 100_000)
    assert "nested too deeply" in refusal(folder)


def _stored(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def _array(shape: tuple[int, ...], dtype: str, content: bytes) -> bytes:
    header = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape!r}, }}"
    padded = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded + content


def _flags(content: bytes, flags: int, method: int | None = None) -> bytes:
    """Set the flags, and perhaps the compression, in both headers of the archive's first file."""
    changed = bytearray(content)
    central = content.index(b"PK\x01\x02")
    struct.pack_into("<H", changed, 6, flags)
    struct.pack_into("<H", changed, central + 8, flags)
    if method is not None:
        struct.pack_into("<H", changed, 8, method)
        struct.pack_into("<H", changed, central + 10, method)
    return bytes(changed)


ROWS = np.ascontiguousarray(tensor()).tobytes()
WHOLE = _array((2, 3), "<f4", ROWS)
GOLDEN: dict[str, Callable[[], bytes]] = {
    "no archive": lambda: b"junk" * 100,
    "nothing": lambda: b"",
    "no outputs": lambda: _stored("input_0.npy", WHOLE),
    "encrypted": lambda: _flags(_stored("input_0.npy", WHOLE), 1),
    "a compression of its own": lambda: _flags(_stored("input_0.npy", WHOLE), 0, 93),
    "no deflate": lambda: _flags(_stored("input_0.npy", WHOLE), 0, 8),
    "40 GB": lambda: _stored("input_0.npy", _array((10**10,), "<f4", ROWS)),
    "cut short": lambda: _stored("input_0.npy", _array((2, 3), "<f4", ROWS[:5])),
    "objects": lambda: _stored("input_0.npy", _array((2, 3), "|O", b"cos\nsystem\n(S'true'\ntR.")),
    "code for a header": lambda: _stored("input_0.npy", _array((2, 3), "f4'), exit()", ROWS)),
    "no header": lambda: _stored("input_0.npy", b"\x93NUMPY\x01\x00\xff\xff"),
    "no numpy": lambda: _stored("input_0.npy", b"junk" * 10),
}


@pytest.mark.parametrize("kind", GOLDEN)
def test_damaged_golden_outputs(kind: str, folder: Path) -> None:
    message = refusal(with_golden(folder, GOLDEN[kind]()))
    assert "golden.npz does not hold what the manifest says" in message


def test_compressed_golden_outputs_are_read(folder: Path) -> None:
    golden = bundle.read(folder).golden()
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {
        **{f"input_{i}": each for i, each in enumerate(golden.inputs.values())},
        **{f"output_{i}": each for i, each in enumerate(golden.outputs.values())},
    }
    np.savez_compressed(buffer, **arrays)
    assert tvm_eff.load(with_golden(folder, buffer.getvalue())).check() < 1e-5
