"""Ed25519 keys and signatures, which prove who exported a bundle and that nobody changed it since.

A signed document is a JSON object whose last bytes, of a fixed number, are

    ,"signature":{"key":"<64 hexadecimal digits>","value":"<128 hexadecimal digits>"}}<newline>

The value is the signature of every byte before these; the key is identified by the sha256 of its 32 raw bytes.
Signature and content are one file, so that one rename replaces both, and no reader needs a canonical form of JSON.

Signing and checking signatures need the `cryptography` package, the extra `sign`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgerec.errors import SignatureError, SigningKeyError
from edgerec.extras import require
from edgerec.files import new_part, remove, remove_leftovers, storage_failure, sync, sync_folder

PUBLIC_BYTES = 32
PublicKey = str | Path | bytes
"""The path of a PEM public key, its bytes, or the key's 32 raw bytes."""
_END = b"}\n"
_SIGNATURE = re.compile(rb',"signature":\{"key":"([0-9a-f]{64})","value":"([0-9a-f]{128})"\}\}\n')
"""Lower case only: a document has exactly one accepted spelling."""
_SIGNATURE_BYTES = 228


@dataclass(frozen=True)
class Signer:
    """A private key that signs.

    Attributes:
        fingerprint: the hexadecimal sha256 of the public key's 32 raw bytes.
        sign: returns the 64 bytes of the signature of its argument.
    """

    fingerprint: str
    sign: Callable[[bytes], bytes]


DRAFT_SIGNER = Signer("0" * 64, lambda _: bytes(64))
"""A placeholder of the size of any signature, so that the size of a document is known before it is signed."""


def signed(document: bytes, signer: Signer) -> bytes:
    """Return a JSON document, which ends in '}' and a newline, with its signature as the last key."""
    content = document.removesuffix(_END)
    value = signer.sign(content).hex()
    return content + f',"signature":{{"key":"{signer.fingerprint}","value":"{value}"}}}}\n'.encode()


def claimed_signer(document: bytes) -> str | None:
    """Return the unchecked fingerprint of the key that a document names; None for an unsigned document."""
    found = _signature(document)
    return None if found is None else found[1].decode()


def check_signature(document: bytes, trusted: dict[str, Any], path: Path) -> None:
    """Check that one of the trusted keys signed a document as it is.

    Args:
        trusted: keys by fingerprint, from `read_public_keys`.
        path: path of the document, for messages.

    Raises SignatureError if it is unsigned, signed with another key, or altered since.
    """
    found = _signature(document)
    if found is None:
        raise SignatureError(
            f"{path} is not signed, and only bundles of trusted keys are wanted; export it with --sign KEY"
        )
    fingerprint = found[1].decode()
    if fingerprint not in trusted:
        raise SignatureError(
            f"{path} is signed with the key {fingerprint}, which is none of the {len(trusted)} trusted; get the bundle "
            "from whom you trust, or trust that key's .pub file"
        )
    invalid = require("cryptography.exceptions", "sign").InvalidSignature
    try:
        trusted[fingerprint].verify(bytes.fromhex(found[2].decode()), document[: found.start()])
    except invalid:
        raise SignatureError(
            f"{path} was altered after it was signed with the key {fingerprint}; get the bundle again"
        ) from None


def _signature(document: bytes) -> re.Match[bytes] | None:
    """Return the match of a document's final signature; its groups are the fingerprint and the value."""
    return _SIGNATURE.fullmatch(document, max(0, len(document) - _SIGNATURE_BYTES))


def new_key(path: Path) -> Path:
    """Create a pair of PEM keys: the private one at `path`, readable by its owner alone, the public one at `path`.pub.

    Returns:
        The public key's path.

    Raises:
        SigningKeyError: one of the files exists already; a lost key cannot be restored.
        MissingExtraError: `cryptography` is not installed.
        StorageError: the file system refuses.
    """
    serialization = _serialization()
    key = _ed25519().Ed25519PrivateKey.generate()
    if not path.name:
        raise SigningKeyError(f"{str(path)!r} names no file; name the key, such as films.key")
    public = path.with_name(path.name + ".pub")
    try:
        taken = next((one for one in (path, public) if one.exists()), None)
    except OSError as error:
        storage_failure(path, error, "write")
    if taken is not None:
        raise _taken(taken)
    private_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public_pem = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    _write_new(path, private_pem, 0o600)
    try:
        _write_new(public, public_pem, 0o644)
    except BaseException:
        remove(path)
        raise
    return public


def read_signer(path: Path) -> Signer:
    """Read the ed25519 private key of a PEM file.

    Raises:
        SigningKeyError: the file holds something else.
        MissingExtraError: `cryptography` is not installed.
        StorageError: the file cannot be read.
    """
    serialization = _serialization()
    content = _read(path)
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError, _unsupported()) as error:  # TypeError: it has a password
        raise SigningKeyError(f"{path} is no private key without a password; make one: edgerec keys new KEY") from error
    if not isinstance(key, _ed25519().Ed25519PrivateKey):
        raise SigningKeyError(f"{path} is a private key of another kind than ed25519; make one: edgerec keys new KEY")
    return Signer(_fingerprint(key.public_key()), key.sign)


def read_public_keys(keys: PublicKey | Iterable[PublicKey]) -> dict[str, Any]:
    """Return ed25519 public keys, of PEM files or bytes, by their fingerprints.

    Raises:
        SigningKeyError: one of them is something else, or there is none.
        MissingExtraError: `cryptography` is not installed.
        StorageError: a file cannot be read.
    """
    _serialization()
    found = [_public_key(key) for key in ([keys] if isinstance(keys, PublicKey) else keys)]
    if not found:
        raise SigningKeyError("no trusted key is given; give the .pub file that 'edgerec keys new' wrote")
    return {_fingerprint(key): key for key in found}


def _public_key(key: PublicKey) -> Any:
    serialization = _serialization()
    name = "a key given as bytes" if isinstance(key, bytes) else str(key)
    content = key if isinstance(key, bytes) else _read(Path(key))
    if len(content) == PUBLIC_BYTES:
        return _ed25519().Ed25519PublicKey.from_public_bytes(content)
    try:
        found = serialization.load_pem_public_key(content)
    except (ValueError, _unsupported()) as error:
        raise SigningKeyError(f"{name} is no public key; give the .pub file that 'edgerec keys new' wrote") from error
    if not isinstance(found, _ed25519().Ed25519PublicKey):
        raise SigningKeyError(f"{name} is a key of another kind than ed25519; give a .pub file of 'edgerec keys new'")
    return found


def _fingerprint(public: Any) -> str:
    return hashlib.sha256(public.public_bytes_raw()).hexdigest()


def _ed25519() -> Any:
    return require("cryptography.hazmat.primitives.asymmetric.ed25519", "sign")


def _unsupported() -> type[Exception]:
    """Return the exception that `cryptography` raises for unknown kinds of keys."""
    unsupported: type[Exception] = require("cryptography.exceptions", "sign").UnsupportedAlgorithm
    return unsupported


def _serialization() -> Any:
    return require("cryptography.hazmat.primitives.serialization", "sign")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        storage_failure(path, error, "read")


def _taken(path: Path) -> SigningKeyError:
    return SigningKeyError(f"{path} exists already, and a lost key cannot be restored: choose another name")


def _write_new(path: Path, content: bytes, mode: int) -> None:
    """Write a whole file unless one has its name: a link, unlike a rename, never replaces a file."""
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent, path.name)
        temporary, stream = new_part(path, mode)
        with stream:
            stream.write(content)
            sync(stream)
        path.hardlink_to(temporary)
        sync_folder(path.parent)
    except FileExistsError:
        raise _taken(path) from None
    except (OSError, ValueError) as error:
        storage_failure(path, error, "write")
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
