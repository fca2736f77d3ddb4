"""A signed bundle is taken from the owner of a key alone, before anything of it is loaded."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made_bundles import Maker, tensor

import tvm_eff
from tvm_eff.cli import bench, inspect, sign
from tvm_eff.deploy import bundle
from tvm_eff.deploy.bundle import Bundle
from tvm_eff.errors import BundleError, SetupError, UsageError


def openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make keys of all kinds, as their own tools do."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("key", "other"):
        openssl("genpkey", "-algorithm", "ed25519", "-out", folder / f"{name}.pem")
    for kind in ("rsa", "ed448"):
        openssl("genpkey", "-algorithm", kind, "-out", folder / f"{kind}.pem")
    for name in ("key", "other", "rsa", "ed448"):
        public = folder / f"{name}-public.pem"
        openssl("pkey", "-in", folder / f"{name}.pem", "-pubout", "-out", public)
    encrypted = folder / "encrypted.pem"
    openssl("pkey", "-in", folder / "key.pem", "-aes256", "-passout", "pass:x", "-out", encrypted)
    for kind in ("ed25519", "ecdsa"):
        made = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(folder / f"ssh-{kind}")]
        subprocess.run(made, check=True)
    (folder / "empty.pem").write_bytes(b"")
    (folder / "noise.pem").write_bytes(bytes(range(256)))
    return folder


@pytest.fixture
def made(maker: Maker, tmp_path: Path) -> Bundle:
    return maker.write(tmp_path / "b")


@pytest.fixture
def signed(made: Bundle, keys: Path) -> Bundle:
    made.sign(keys / "key.pem")
    return made


def refused(made: Bundle, key: Path) -> str:
    with pytest.raises(BundleError) as caught:
        tvm_eff.load(made.folder, public_key=key)
    return str(caught.value)


def test_a_bundle_that_nobody_signed(made: Bundle, keys: Path) -> None:
    assert "is not signed: it has no manifest.json.sig" in refused(made, keys / "key-public.pem")
    tvm_eff.load(made.folder).check()


def test_another_key(signed: Bundle, keys: Path) -> None:
    message = refused(signed, keys / "other-public.pem")
    assert "is not what the owner of" in message
    assert "nothing of the bundle was loaded" in message


@pytest.mark.parametrize(("size", "said"), [(0, "0 bytes"), (63, "63 bytes"), (65, "is larger")])
def test_a_torn_signature(signed: Bundle, keys: Path, size: int, said: str) -> None:
    path = signed.folder / "manifest.json.sig"
    path.write_bytes((path.read_bytes() + b"0")[:size])
    assert said in refused(signed, keys / "key-public.pem")


def test_a_flipped_signature(signed: Bundle, keys: Path) -> None:
    path = signed.folder / "manifest.json.sig"
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)
    assert "is not what the owner of" in refused(signed, keys / "key-public.pem")


def test_a_manifest_changed_since(signed: Bundle, keys: Path) -> None:
    path = signed.folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text())))
    assert "it was changed since" in refused(signed, keys / "key-public.pem")
    path.write_text("[]")
    assert "it was changed since" in refused(signed, keys / "key-public.pem")


@pytest.mark.parametrize("name", ["model.so", "golden.npz"])
def test_another_file_changed_since(signed: Bundle, keys: Path, name: str) -> None:
    path = signed.folder / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert f"{name} is damaged" in refused(signed, keys / "key-public.pem")
    with pytest.raises(BundleError, match="is damaged"):
        signed.sign(keys / "other.pem")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.pem", "cannot read .*none.pem: No such file"),
        ("empty.pem", "is no private key that can be read; make one with: openssl genpkey"),
        ("noise.pem", "is no private key"),
        ("key-public.pem", "is no private key"),
        ("ssh-ed25519.pub", "is no private key"),
        ("encrypted.pem", "is encrypted; decrypt it for signing: openssl pkey"),
        ("rsa.pem", "is a key of the kind RSAPrivateKey, not one of Ed25519"),
        ("ed448.pem", "is a key of the kind Ed448PrivateKey"),
        ("ssh-ecdsa", "is a key of the kind ECPrivateKey"),
        (".", "Is a directory; give the file of a key"),
    ],
)
def test_what_is_no_private_key(made: Bundle, keys: Path, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        made.sign(keys / name)
    assert not (made.folder / "manifest.json.sig").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.pem", "cannot read .*none.pem: No such file"),
        ("empty.pem", "is no public key that can be read; make one of the private key: openssl"),
        ("noise.pem", "is no public key"),
        ("key.pem", "is a private key; give the public one: openssl pkey"),
        ("ssh-ed25519", "is a private key"),
        ("rsa-public.pem", "is a key of the kind RSAPublicKey, not one of Ed25519"),
        ("ssh-ecdsa.pub", "is a key of the kind ECPublicKey"),
    ],
)
def test_what_is_no_public_key(signed: Bundle, keys: Path, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        tvm_eff.load(signed.folder, public_key=keys / name)


def test_the_library_for_signatures_is_not_there(
    made: Bundle, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    with pytest.raises(SetupError, match=r"need the package cryptography.*pip install"):
        made.sign(keys / "key.pem")
    with pytest.raises(SetupError, match="need the package cryptography"):
        tvm_eff.load(made.folder, public_key=keys / "key-public.pem")
    tvm_eff.load(made.folder).check()


@pytest.mark.parametrize(
    ("private", "public"),
    [("key.pem", "key-public.pem"), ("ssh-ed25519", "ssh-ed25519.pub")],
)
def test_the_right_key(made: Bundle, keys: Path, private: str, public: str) -> None:
    path = made.sign(keys / private)
    assert (path.name, path.stat().st_size) == ("manifest.json.sig", 64)
    loaded = tvm_eff.load(made.folder, public_key=keys / public)
    np.testing.assert_array_equal(loaded(tensor()), 2 * tensor())
    assert bundle.read(made.folder) == made


def test_openssl_checks_and_makes_the_same(signed: Bundle, keys: Path) -> None:
    files = ("-rawin", "-in", signed.folder / "manifest.json")
    signature = signed.folder / "manifest.json.sig"
    public = keys / "key-public.pem"
    openssl("pkeyutl", "-verify", "-pubin", "-inkey", public, *files, "-sigfile", signature)
    before = signature.read_bytes()
    openssl("pkeyutl", "-sign", "-inkey", keys / "key.pem", *files, "-out", signature)
    assert signature.read_bytes() == before


def test_a_bundle_built_again_is_not_signed(maker: Maker, signed: Bundle, keys: Path) -> None:
    maker.write(signed.folder)
    assert "is not signed" in refused(signed, keys / "key-public.pem")


def test_the_commands(
    made: Bundle, keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(made.folder)
    assert sign.main([folder, "--key", str(keys / "rsa.pem")]) == 2
    assert bench.main([folder, "--public-key", str(keys / "key-public.pem")]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert [line.split()[0] for line in printed.err.splitlines()] == ["error:", "error:"]
    assert sign.main([folder, "--key", str(keys / "key.pem")]) == 0
    shutil.copytree(folder, tmp_path / "copy")
    for verb in (bench, inspect):
        words = [str(tmp_path / "copy"), "--public-key"]
        assert verb.main([*words, str(keys / "key-public.pem")]) == 0
        assert verb.main([*words, str(keys / "other-public.pem")]) == 2
    assert "is not what the owner of" in capsys.readouterr().err
