"""A detached signature of a bundle: who made it, where hashes only tell damage.

``manifest.json.sig`` holds the 64 bytes of an Ed25519 signature (RFC 8032) of ``manifest.json``,
which has the SHA-256 of every other file that is loaded. It is what ``openssl pkeyutl`` writes with
``-sign -rawin``, so that a board without Python can check it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_eff import paths
from tvm_eff.deploy import manifest
from tvm_eff.errors import BundleError, SetupError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

NAME = f"{manifest.NAME}.sig"

_BYTES = 64
_MOST_KEY_BYTES = 1 << 20
_MAKE = "openssl genpkey -algorithm ed25519 -out key.pem"
_PUBLISH = "openssl pkey -in key.pem -pubout -out public.pem"


def sign(folder: Path, key: str | Path) -> Path:
    """Write the signature of a bundle's manifest; one that is there already is replaced.

    Parameters
    ----------
    folder
        The bundle's, whose files are as the manifest says.
    key
        The file of an Ed25519 private key, of OpenSSL or of OpenSSH.

    Returns
    -------
    Path
        The signature's file.

    Raises
    ------
    UsageError
        The key cannot be read, or is of another kind.
    BundleError
        The signature cannot be written.
    SetupError
        The library for signatures is not installed.
    """
    private = _private_key(Path(key))
    signed = private.sign((folder / manifest.NAME).read_bytes())
    path = folder / NAME
    try:
        with paths.atomic_file(path) as part:
            part.write_bytes(signed)
    except OSError as error:
        raise BundleError(
            f"cannot write {path}: {error.strerror or error}; check the right to write there"
        ) from error
    return path


def verify(folder: Path, content: bytes, *, public_key: str | Path) -> None:
    """Refuse a manifest that the owner of a key has not signed as it is.

    Parameters
    ----------
    folder
        The bundle's.
    content
        The manifest, as read.
    public_key
        The file of an Ed25519 public key, of OpenSSL or of OpenSSH.

    Raises
    ------
    BundleError
        There is no signature, or it is damaged, another key's, or of another manifest.
    UsageError
        The key cannot be read, or is of another kind.
    SetupError
        The library for signatures is not installed.
    """
    public = _public_key(Path(public_key))
    path = folder / NAME
    if not path.exists():
        raise BundleError(
            f"{folder} is not signed: it has no {NAME}; get a signed one, or sign it with: "
            f"tvm-eff sign {folder} --key key.pem"
        )
    signed = paths.read_regular(path, _BYTES, BundleError, "get a signed bundle")
    if len(signed) != _BYTES:
        raise BundleError(
            f"{path} is damaged: it has {len(signed)} bytes, and a signature {_BYTES}; copy the "
            "bundle again"
        )
    from cryptography.exceptions import InvalidSignature

    try:
        public.verify(signed, content)
    except InvalidSignature as error:
        raise BundleError(
            f"{folder / manifest.NAME} is not what the owner of {public_key} signed: another key "
            "signed it, or it was changed since; nothing of the bundle was loaded"
        ) from error


def _private_key(path: Path) -> Ed25519PrivateKey:
    serialization = _serialization()
    content = _content(path)
    ssh = content.startswith(b"-----BEGIN OPENSSH")
    load = serialization.load_ssh_private_key if ssh else serialization.load_pem_private_key
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    try:
        found = load(content, None)
    except TypeError as error:
        raise UsageError(
            f"{path} is encrypted; decrypt it for signing: openssl pkey -in {path} -out plain.pem"
        ) from error
    except Exception as error:  # whatever else the library says of a file
        raise UsageError(
            f"{path} is no private key that can be read; make one with: {_MAKE}"
        ) from error
    if not isinstance(found, Ed25519PrivateKey):
        raise UsageError(f"{path} is {_kind(found)}, not one of Ed25519; make one with: {_MAKE}")
    return found


def _public_key(path: Path) -> Ed25519PublicKey:
    serialization = _serialization()
    content = _content(path)
    if b"PRIVATE KEY-----" in content:
        raise UsageError(f"{path} is a private key; give the public one: {_PUBLISH}")
    ssh = content.startswith(b"ssh-") or content.startswith(b"ecdsa-")
    load = serialization.load_ssh_public_key if ssh else serialization.load_pem_public_key
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        found = load(content)
    except Exception as error:  # whatever the library says of a file
        raise UsageError(
            f"{path} is no public key that can be read; make one of the private key: {_PUBLISH}"
        ) from error
    if not isinstance(found, Ed25519PublicKey):
        raise UsageError(f"{path} is {_kind(found)}, not one of Ed25519; make one with: {_MAKE}")
    return found


def _content(path: Path) -> bytes:
    return paths.read_regular(path, _MOST_KEY_BYTES, UsageError, "give the file of a key")


def _kind(key: Any) -> str:
    return f"a key of the kind {type(key).__name__.strip('_')}"


def _serialization() -> Any:
    try:
        from cryptography.hazmat.primitives import serialization
    except ImportError as error:
        raise SetupError(
            "signatures need the package cryptography, which is not installed; "
            "pip install cryptography"
        ) from error
    return serialization
