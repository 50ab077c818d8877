"""Ed25519 keys and signatures: who made a bundle, and that nobody changed it since.

Needs the `cryptography` package, the extra `sign`, and only where something is signed or a signature is asked for.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edgerec.errors import SigningKeyError
from edgerec.extras import require
from edgerec.files import remove, storage_failure, sync, sync_folder

SIGNATURE_BYTES = 64
PUBLIC_BYTES = 32
PublicKey = str | Path | bytes
"""A file with a PEM public key, its bytes, or the key's 32 raw bytes."""


def new_key(path: Path) -> Path:
    """Make a pair of keys: the private one at `path`, PEM, readable by its owner alone; the public one at `path`.pub.

    Returns:
        The public key's path.

    Raises:
        SigningKeyError: one of the files is there already; a lost key cannot be made again.
        MissingExtraError: without `cryptography`.
        StorageError: the file system refuses.
    """
    serialization = _serialization()
    key = require("cryptography.hazmat.primitives.asymmetric.ed25519", "sign").Ed25519PrivateKey.generate()
    public = path.with_name(path.name + ".pub")
    for one in (path, public):
        if one.exists():
            raise _taken(one)
    private_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write_new(path, private_pem, 0o600)
    try:
        _write_new(public, public_pem(key), 0o644)
    except BaseException:
        remove(path)
        raise
    return public


def public_pem(private: Any) -> bytes:
    """The PEM of the public key that belongs to a private one."""
    serialization = _serialization()
    pem: bytes = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return pem


def read_private_key(path: Path) -> Any:
    """The ed25519 private key in a PEM file.

    Raises:
        SigningKeyError: something else is in it.
        MissingExtraError: without `cryptography`.
        StorageError: it cannot be read.
    """
    serialization = _serialization()
    content = _read(path)
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError) as error:  # TypeError: it has a password
        raise SigningKeyError(f"{path} is no private key without a password; make one: edgerec keys new KEY") from error
    if not hasattr(key, "sign") or not _is_ed25519(key):
        raise SigningKeyError(f"{path} is a private key of another kind than ed25519; make one: edgerec keys new KEY")
    return key


def read_public_keys(keys: PublicKey | Iterable[PublicKey]) -> list[Any]:
    """The ed25519 public keys in PEM files, or given as bytes.

    Raises:
        SigningKeyError: something else is in one of them.
        MissingExtraError: without `cryptography`.
        StorageError: one cannot be read.
    """
    _serialization()
    return [_public_key(key) for key in ([keys] if isinstance(keys, PublicKey) else keys)]


def is_signed_by_any(keys: Iterable[Any], signature: bytes, content: bytes) -> bool:
    """Whether `signature` is that of `content` by one of the public keys."""
    invalid = require("cryptography.exceptions", "sign").InvalidSignature
    for key in keys:
        try:
            key.verify(signature, content)
        except invalid:
            continue
        return True
    return False


def _public_key(key: PublicKey) -> Any:
    serialization = _serialization()
    name = "a key given as bytes" if isinstance(key, bytes) else str(key)
    content = key if isinstance(key, bytes) else _read(Path(key))
    if len(content) == PUBLIC_BYTES:
        ed25519 = require("cryptography.hazmat.primitives.asymmetric.ed25519", "sign")
        return ed25519.Ed25519PublicKey.from_public_bytes(content)
    try:
        found = serialization.load_pem_public_key(content)
    except ValueError as error:
        raise SigningKeyError(f"{name} is no public key; give the .pub file that 'edgerec keys new' made") from error
    if not _is_ed25519(found):
        raise SigningKeyError(f"{name} is a key of another kind than ed25519; give a .pub file of 'edgerec keys new'")
    return found


def _is_ed25519(key: Any) -> bool:
    ed25519 = require("cryptography.hazmat.primitives.asymmetric.ed25519", "sign")
    return isinstance(key, (ed25519.Ed25519PrivateKey, ed25519.Ed25519PublicKey))


def _serialization() -> Any:
    return require("cryptography.hazmat.primitives.serialization", "sign")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        storage_failure(path, error, "read")


def _taken(path: Path) -> SigningKeyError:
    return SigningKeyError(f"{path} is there already, and a key that is lost cannot be made again: choose another name")


def _write_new(path: Path, content: bytes, mode: int) -> None:
    """A whole file that takes its name only where nothing has it: a link, unlike a rename, never replaces."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:  # noqa: PTH123
            stream.write(content)
            sync(stream)
        path.hardlink_to(temporary)
        sync_folder(path.parent)
    except FileExistsError:
        raise _taken(path) from None
    except OSError as error:
        storage_failure(path, error, "write")
    finally:
        temporary.unlink(missing_ok=True)
