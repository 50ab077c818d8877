"""What a bundle is, of its manifest alone: no table is opened for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgerec.runtime.manifest import Manifest, read_manifest
from edgerec.signatures import PublicKey, read_public_keys


@dataclass(frozen=True)
class Metadata:
    """What apps ask about a bundle.

    Attributes:
        version: of the format, such as "1.0".
        layout, precision: of the items.
        d: dimensions of a row.
        items, users: rows; 0 users where a user's vector is computed from a history.
        bytes: of all files.
        graphs: "recommend" and "score", and where there is room "similar" and "encode".
        titles: whether items have them.
        about: data, backbone, method, budget, metrics; all optional.
    """

    version: str
    layout: str
    precision: str
    d: int
    items: int
    users: int
    bytes: int
    graphs: tuple[str, ...]
    titles: bool
    about: dict[str, Any]

    @classmethod
    def of(cls, manifest: Manifest) -> Metadata:
        return cls(
            version=".".join(map(str, manifest.version)),
            layout=manifest.layout,
            precision=manifest.precision,
            d=manifest.d,
            items=manifest.items.rows,
            users=0 if manifest.users is None else manifest.users.rows,
            bytes=manifest.nbytes,
            graphs=tuple(manifest.graphs),
            titles="item_titles" in manifest.sections,
            about=manifest.about,
        )


def metadata(path: str | Path, *, trusted: PublicKey | Iterable[PublicKey] | None = None) -> Metadata:
    """What the bundle in folder `path` is, read from its manifest; no other file is looked at.

    Raises:
        SignatureError: none of the trusted keys signed it.
        BundleError: no bundle there, a damaged manifest, or one of a newer major version.
        StorageError: the file system refuses.
    """
    return Metadata.of(read_manifest(Path(path), None if trusted is None else read_public_keys(trusted)))
