"""A second encoder of bundle format 2, written from docs/reference/bundle.md alone: it finds errors of the first."""

from __future__ import annotations

import json
import shutil
import struct
import zlib
from collections.abc import Sequence
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

Blocks = Sequence[Sequence[Any]]
"""The raw ids of each block of rows, in row order."""


def whole_numbers(blocks: Blocks, low: int) -> bytes:
    """Return the section of whole numbers, stored in `low` bytes each."""
    content = bytearray([low])
    for ids in blocks:
        buckets: list[list[int]] = [[] for _ in range(((ids[-1] - ids[0]) >> 8 * low) + 1)]
        for number in ids:
            buckets[(number - ids[0]) >> 8 * low].append((number - ids[0]) % 256**low)
        content += struct.pack("<qI", ids[0], len(buckets))
        content += struct.pack(f"<{len(buckets)}H", *map(len, buckets))
        for bucket in buckets:
            if low == 1 and len(bucket) >= 32:
                content += sum(1 << x for x in bucket).to_bytes(32, "little")
            else:
                content += b"".join(x.to_bytes(low, "little") for x in bucket)
    return bytes(content)


def texts(blocks: Blocks, rows_a_group: Sequence[int]) -> bytes:
    """Return the section of texts, in groups of so many rows in turn."""
    content = bytearray()
    for ids in blocks:
        left = [text.encode() for text in ids]
        groups: list[list[bytes]] = []
        while left:
            count = min(rows_a_group[len(groups) % len(rows_a_group)], len(left))
            groups.append(left[:count])
            left = left[count:]
        bodies = [group(one) for one in groups]
        content += struct.pack("<I", len(groups)) + bytes(map(len, groups))
        content += struct.pack(f"<{len(groups)}I", *map(len, bodies)) + b"".join(bodies)
    return bytes(content)


def group(ids: Sequence[bytes]) -> bytes:
    """Return one group of texts."""
    content, before = bytearray(), b""
    for text in ids:
        shared = 0
        while shared < min(len(before), len(text)) and before[shared] == text[shared]:
            shared += 1
        content += leb128(shared) + leb128(len(text) - shared) + text[shared:]
        before = text
    return bytes(content)


def leb128(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number % 128 + 128]) + leb128(number // 128)


def fnv(text: str) -> int:
    """Return the 64-bit FNV-1a hash, without a sign."""
    value = 14695981039346656037
    for byte in text.encode():
        value = (value ^ byte) * 1099511628211 % 2**64
    return value


def raw_ids(bundle: Path, side: str) -> list[list[Any]]:
    """Return the ids of a bundle of version 1, by block."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    tables = (bundle / manifest["tables"]["file"]).read_bytes()
    entry = manifest[f"{side}s"]

    def numbers(name: str) -> list[int]:
        offset, dtype, (count,) = manifest["sections"][name]
        size = int(dtype.lstrip("uint")) // 8
        stored = [tables[at : at + size] for at in range(offset, offset + size * count, size)]
        return [int.from_bytes(one, "little", signed=not dtype.startswith("u")) for one in stored]

    if entry["ids"] == "str":
        ends, (offset, _, _) = numbers(f"{side}_id_offsets"), manifest["sections"][f"{side}_ids"]
        ids: list[Any] = [tables[offset + a : offset + b].decode() for a, b in pairwise(ends)]
    else:
        ids = numbers(f"{side}_ids")
    rows = iter(ids)
    return [[next(rows) for _ in range(count)] for _, count in entry["blocks"]]


def upgraded(bundle: Path, target: Path) -> Path:
    """Write a bundle of version 1 as one of version 2: its ids are coded, behind all other sections."""
    coded: dict[str, tuple[str, bytes]] = {}
    manifest = json.loads((bundle / "manifest.json").read_text())
    for side in ("item", "user"):
        if manifest[f"{side}s"] and manifest[f"{side}s"]["ids"] != "none":
            ids, kind = raw_ids(bundle, side), manifest[f"{side}s"]["ids"]
            coded[side] = (kind, texts(ids, (5, 1, 9)) if kind == "str" else whole_numbers(ids, _low(ids)))
    return with_ids(bundle, target, coded)


def _low(ids: Blocks) -> int:
    """Return the fewest low bytes with a few thousand buckets."""
    return next(low for low in range(1, 8) if all((one[-1] - one[0]) >> 8 * low < 4096 for one in ids))


def with_ids(
    bundle: Path, target: Path, coded: dict[str, tuple[str, bytes]], blocks: Sequence[int] | None = None, **fields: Any
) -> Path:
    """Write a bundle as one of version 2 with these ids.

    Args:
        coded: the kind and the section of each side.
        blocks: rows of the items' blocks; None for those of the bundle. With others it opens, but answers nothing.
        fields: other fields of the manifest.
    """
    shutil.copytree(bundle, target)
    manifest = json.loads((target / "manifest.json").read_text())
    manifest.pop("signature", None)
    tables = bytearray((target / manifest["tables"]["file"]).read_bytes())
    manifest |= {"version": "2.0", "requires": [], **fields}
    sections = manifest["sections"]
    for side, (kind, content) in coded.items():
        sections.pop(f"{side}_id_offsets", None)
        sections[f"{side}_ids"] = [len(tables), "uint8", [len(content)]]
        tables += content
        manifest[f"{side}s"]["ids"] = kind
    if blocks is not None:
        manifest["items"] |= {"rows": sum(blocks), "blocks": [[8, rows] for rows in blocks]}
    manifest["tables"] |= {"bytes": len(tables), "sha256": sha256(tables).hexdigest()}
    (target / manifest["tables"]["file"]).write_bytes(tables)
    (target / "manifest.json").write_text(json.dumps(manifest))
    return target


def head_of(bundle: Path) -> tuple[bytes, bytes, bytes]:
    """Return the manifest, the other files of the head, and the tables."""
    document = (bundle / "manifest.json").read_bytes()
    manifest = json.loads(document)
    names = sorted(entry["file"] for entry in [*manifest["graphs"].values(), *manifest["other_files"]])
    rest = b"".join((bundle / name).read_bytes() for name in names)
    return document, rest, (bundle / manifest["tables"]["file"]).read_bytes()


def one_file(
    bundle: Path,
    *,
    deflate: bool = True,
    version: tuple[int, int] = (2, 0),
    stored: bytes | None = None,
    **lengths: int,
) -> bytes:
    """Return a bundle in one file.

    Args:
        stored: the head as it is stored; None for the right one.
        lengths: `stored_bytes`, `head_bytes` and `manifest_bytes` that the file says instead of the right ones.
    """
    document, rest, tables = head_of(bundle)
    head = document + rest
    stored = (zlib.compress(head, 9) if deflate else head) if stored is None else stored
    says = {"stored_bytes": len(stored), "head_bytes": len(head), "manifest_bytes": len(document)} | lengths
    start = b"edgerecB" + struct.pack("<HHIII", *version, *says.values()) + stored
    return start + bytes(-len(start) % 64) + tables


def rollback_patch(old: Path, new: Path) -> bytes:
    """Return a patch between two bundles that differ in their manifests alone: docs/reference/patch.md."""
    before, after = ((bundle / "manifest.json").read_bytes() for bundle in (old, new))
    manifest = {"bytes": len(after), "sha256": sha256(after).hexdigest(), "copies": 1}
    header = {
        **{"format": "edgerec.patch", "version": "1.0", "base": {"manifest": sha256(before).hexdigest()}},
        **{"manifest": manifest, "files": [], "sides": {}, "sections": []},
    }
    # One run that copies nothing, and inserts everything, in byte planes.
    run = b"".join(bytes([n]) for plane in range(4) for n in (0, 0, len(after) >> 8 * plane & 255))
    stream = json.dumps(header).encode() + b"\n" + run + after
    signed = struct.pack("<Q", len(stream)) + zlib.compress(stream)
    return b"edgerecP" + struct.pack("<HH", 1, 0) + sha256(signed).digest() + signed
