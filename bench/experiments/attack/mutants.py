"""Mutants of bundles and patches: whole ones that are damaged, or edited by someone who makes hashes fit.

A mutant follows from the seed and its number. `Base.make` exports the bundles that they are made of.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import shutil
import struct
import subprocess
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.experiments.attack.graphs import WAYS, hostile
from edgerec.models.encoder import LeastSquaresEncoder, LinearEncoder
from edgerec.runtime.stored import write_packed
from edgerec_export import ExportRequest, Source, diff, export, export_request, from_arrays

SIGNATURE = 228
"""Bytes at the end of a signed manifest."""
DAMAGES = ("flip", "cut", "longer", "noise", "swap", "other bundle", "missing", "zeros")
EDITS = ("value", "remove", "entries", "deep", "repeated key", "sections", "bytes", "many files")
PATCH_WAYS = (
    "flip",
    "cut",
    "longer",
    "header",
    "empty lists",
    "size",
    "bomb",
    "stream",
    "deep",
    "other patch",
    "counts",
    "names",
)
FILE_WAYS = ("flip", "cut", "longer", "header", "bomb", "head", "ids")
VALUES: tuple[Any, ...] = (
    *(-1, 0, 1, 2**31, 2**32, 2**53, 2**63, 10**30, -(2**63), 1.5, 1e300, float("nan"), None, True, "", "..", "../x"),
    *("/etc/passwd", "a\\b", "\u0000", "x" * 5000, [], {}, [0], [[]], "float32", "uint8", "int64", "nul", "\ud800"),
)
LARGE = 40_000_000
"""Bytes of zeros in a bomb."""


@dataclass(frozen=True)
class Base:
    """A bundle, the one that its patch leads to, and the request that both can answer."""

    name: str
    folder: Path
    key: Path | None
    kind: str
    ids: str

    @property
    def old(self) -> Path:
        return self.folder / "old.bundle"

    @property
    def new(self) -> Path:
        return self.folder / "new.bundle"

    @property
    def patch(self) -> bytes:
        return (self.folder / "patch").read_bytes()


@dataclass(frozen=True)
class Mutant:
    """A damaged bundle, or a whole one with a damaged patch.

    Attributes:
        fits: hashes were made to fit, so that an answer may be that of another bundle.
        harmless: what was changed is not read.
    """

    number: int
    base: Base
    way: str
    fits: bool
    bundle: Path
    patch: Path | None
    trusted: bool
    harmless: bool = False

    def request(self) -> str:
        key = str(self.base.key) if self.trusted and self.base.key else "-"
        patch = "-" if self.patch is None else str(self.patch)
        return "\t".join([str(self.number), str(self.bundle), patch, key, self.base.kind, self.base.ids])


def make_bases(folder: Path) -> list[Base]:
    """Export bundles of every layout, some of them signed, and their patches."""
    key = folder / "films.key"
    command = [sys.executable, "-m", "edgerec.cli", "keys", "new", str(key)]
    subprocess.run(command, check=True, capture_output=True)
    rng = np.random.default_rng(7)
    words = [f"{word}{n}" for n, word in enumerate(("é", "a", "日", "b") * 15)]
    forms: list[tuple[str, str, Any, list[str] | None, bool]] = [
        ("dense", "fp32", None, None, True),
        ("mixed", "int8", None, words, True),
        ("csr", "int8", LinearEncoder(np.ones(60, np.float32), 0.5), None, False),
        ("ell", "fp16", LeastSquaresEncoder(3.0, 5.0), words, False),
        ("bitmask", "int4", None, None, False),
        ("csc", "int8", None, words, False),
        ("mixed", "int2", LinearEncoder(np.ones(60, np.float32)), words, False),
        ("dense", "int4", None, None, True),
    ]
    bases = []
    for layout, precision, encoder, ids, signed in forms:
        place = folder / f"{layout}-{precision}"
        place.mkdir()
        items, users = (rng.standard_normal((rows, 8)).astype(np.float32) for rows in (60, 20))
        items *= rng.random((60, 8)) < 0.7
        base = Base(place.name, place, Path(f"{key}.pub") if signed else None, *_asked(ids, encoder))
        shared: dict[str, Any] = {"titles": True, "verify": False} | ({"sign": key} if signed else {})
        options = ExportRequest(layout=layout, precision=precision, lookup=layout == "csc", similar=True, **shared)
        export_request(_source(items, users, encoder, ids), base.old, options)
        items[3:9] += 0.5 * rng.standard_normal((6, 8)).astype(np.float32) * (items[3:9] != 0)
        export(_source(items, users, encoder, ids), base.new, like=base.old, **shared)
        diff(base.old, base.new, place / "patch", verify=False)
        bases.append(base)
    return bases


def _asked(ids: list[str] | None, encoder: Any) -> tuple[str, str]:
    rows = (3, 10, 20, 30)
    names = [f"i{row}" if ids is None else "s" + ids[row].encode().hex() for row in rows]
    if encoder is None:
        return "user", ",".join(["i3", *names[1:]])
    return "history", ",".join(names)


def _source(items: Any, users: Any, encoder: Any, ids: list[str] | None) -> Source:
    counts = np.arange(60) if encoder else None
    source = from_arrays(items, None if encoder else users, encoder=encoder, item_ids=ids, item_counts=counts)
    return dataclasses.replace(source, titles=np.array([f"title {n}" for n in range(60)]))


def mutant(seed: int, number: int, bases: list[Base], place: Path) -> Mutant:
    """Write the mutant of a number into `place`, a folder that is emptied."""
    rng = np.random.default_rng([seed, number])
    base = bases[int(rng.integers(len(bases)))]
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    bundle = place / "bundle"
    shutil.copytree(base.old, bundle)
    trusted = base.key is not None and bool(rng.random() < 0.5)
    fits = bool(rng.random() < 0.5)
    if rng.random() < 0.4:
        way = str(rng.choice(PATCH_WAYS))
        content = damaged_patch(base, bases, way, fits, rng)
        (place / "patch").write_bytes(content)
        return Mutant(number, base, f"patch: {way}", fits, bundle, place / "patch", trusted, content == base.patch)
    if rng.random() < 0.2:
        way = str(rng.choice(FILE_WAYS))
        write_packed(bundle, place / "bundle.edgerec")
        whole = (place / "bundle.edgerec").read_bytes()
        content = damaged_file(whole, way, rng)
        (place / "bundle.edgerec").write_bytes(content)
        same = content[:10] + content[12:] == whole[:10] + whole[12:]  # apart from the minor version
        return Mutant(number, base, f"file: {way}", way == "ids", place / "bundle.edgerec", None, trusted, same)
    if not fits:
        way = str(rng.choice(DAMAGES))
        return Mutant(number, base, way, False, bundle, None, trusted, damage(bundle, bases, way, rng, None))
    manifest, signature = _read(bundle)
    edit = rng.random()
    if edit < 0.35:
        way = str(rng.choice(EDITS))
        edited = edit_json(copy.deepcopy(manifest), way, rng)
        (bundle / "manifest.json").write_bytes(signed(edited, signature))
        return Mutant(number, base, f"manifest: {way}", True, bundle, None, trusted)
    if edit < 0.75:
        way = str(rng.choice(WAYS))
        entry = manifest["graphs"][str(rng.choice(["recommend", "score"]))]
        content = hostile((bundle / entry["file"]).read_bytes(), way, rng)
        (bundle / entry["file"]).write_bytes(content)
        way = f"graph: {way}"
    else:
        way = str(rng.choice(DAMAGES))
        damage(bundle, bases, way, rng, manifest)
    for entry in [manifest["tables"], *manifest["graphs"].values(), *manifest["other_files"]]:
        if (bundle / entry["file"]).exists():
            content = (bundle / entry["file"]).read_bytes()
            entry |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (bundle / "manifest.json").write_bytes(signed(_text(manifest), signature))
    return Mutant(number, base, way, True, bundle, None, trusted)


def _read(bundle: Path) -> tuple[dict[str, Any], bytes]:
    """Return a manifest and the bytes of its signature, which stay behind an edited one as they are."""
    content = (bundle / "manifest.json").read_bytes()
    manifest: dict[str, Any] = json.loads(content)
    return manifest, content[-SIGNATURE:] if manifest.pop("signature", None) else b""


def signed(document: bytes, signature: bytes) -> bytes:
    """Return a document with the signature of another at its end, in the form of a signed one."""
    return document[:-1] + signature if signature else document


def _text(manifest: Any) -> bytes:
    return json.dumps(manifest).encode("utf-8", "surrogatepass")


def damage(
    bundle: Path, bases: list[Base], way: str, rng: np.random.Generator, manifest: dict[str, Any] | None
) -> bool:
    """Change one file's bytes; return whether nothing that is read was changed. Manifests are left to `edit_json`."""
    names = sorted(path.name for path in bundle.iterdir() if path.name != "manifest.json")
    name, other = (str(rng.choice(names)) for _ in range(2))
    path, before = bundle / name, (bundle / name).read_bytes()
    content = bytearray(before)
    at = int(rng.integers(len(content)))
    if way == "flip":
        for _ in range(int(rng.integers(1, 9))):
            content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
    elif way == "cut":
        content = content[:at]
    elif way == "longer":
        content += rng.bytes(int(rng.integers(1, 5000)))
    elif way in ("noise", "zeros"):
        count = min(int(rng.integers(1, 200)), len(content) - at)
        content[at : at + count] = rng.bytes(count) if way == "noise" else bytes(count)
    elif way == "swap":
        content = bytearray((bundle / other).read_bytes())
    elif way == "other bundle":
        folder = bases[int(rng.integers(len(bases)))].old
        chosen = [entry for entry in sorted(folder.iterdir()) if entry.name.split("-")[0] == name.split("-")[0]]
        content = bytearray(chosen[0].read_bytes() if chosen else b"")
    if way == "missing":
        path.unlink()
    else:
        path.write_bytes(content)
    return name.startswith("README") or (way != "missing" and bytes(content) == before)


HEADER = struct.Struct("<8sHHIII")


def damaged_file(content: bytes, way: str, rng: np.random.Generator) -> bytes:
    """Return a bundle in one file that is damaged in one of `FILE_WAYS`; hashes fit after "ids" alone."""
    found, at = bytearray(content), int(rng.integers(len(content)))
    magic, major, minor, stored, whole, manifest = HEADER.unpack_from(content)
    head = zlib.decompress(content[HEADER.size : HEADER.size + stored])
    tables = content[-(-(HEADER.size + stored) // 64) * 64 :]
    if way == "flip":
        for _ in range(int(rng.integers(1, 9))):
            found[int(rng.integers(len(found)))] ^= 1 << int(rng.integers(8))
        return bytes(found)
    if way == "cut":
        return content[:at]
    if way == "longer":
        return content + rng.bytes(int(rng.integers(1, 5000)))
    if way == "header":
        fields = [major, minor, stored, whole, manifest]
        one = int(rng.integers(len(fields)))
        limit = (1 << 16 if one < 2 else 1 << 32) - 1
        fields[one] = int(rng.choice([0, 1, limit, fields[one] - 1, fields[one] + 1, int(rng.integers(limit))]))
        return HEADER.pack(magic, *(min(max(field, 0), limit) for field in fields)) + content[HEADER.size :]
    if way == "bomb":
        head = bytes(LARGE)
    elif way == "head":
        place = int(rng.integers(len(head)))
        count = int(rng.integers(0, 40))  # of another length: the card is not compared
        head = head[:place] + rng.bytes(count) + head[place + count + 1 :]
    else:  # the bytes of ids, with hashes that fit
        document = json.loads(head[:manifest])
        document.pop("signature", None)
        offset, _, (size,) = document["sections"]["item_ids"]
        changed = bytearray(tables)
        for _ in range(int(rng.integers(1, 4))):
            changed[offset + int(rng.integers(min(size, 40) if rng.random() < 0.6 else size))] = int(rng.integers(256))
        tables = bytes(changed)
        document["tables"]["sha256"] = hashlib.sha256(tables).hexdigest()
        text = _text(document)
        head, manifest = text + head[manifest:], len(text)
    deflated = zlib.compress(head)
    start = HEADER.pack(magic, major, minor, len(deflated), len(head), manifest) + deflated
    return start.ljust(-(-len(start) // 64) * 64, b"\0") + tables


def edit_json(document: Any, way: str, rng: np.random.Generator) -> bytes:
    """Return a JSON object that is edited in one of `EDITS`."""
    if way in ("value", "remove"):
        for _ in range(int(rng.integers(1, 3))):
            place: Any = document
            while True:
                keys = list(place) if isinstance(place, dict) else list(range(len(place)))
                key = keys[int(rng.integers(len(keys)))]
                if isinstance(place[key], (dict, list)) and place[key] and rng.random() < 0.8:
                    place = place[key]
                    continue
                if way == "remove":
                    del place[key]
                else:
                    place[key] = VALUES[int(rng.integers(len(VALUES)))]
                break
            if not document:
                break
    elif way == "deep":
        return (
            b"[" * int(rng.choice([100, 5000, 200_000]))
            if rng.random() < 0.5
            else _text(document)[:-1] + b',"x":' + b'{"a":' * 9999
        )
    elif way == "repeated key":
        return _text(document)[:-1] + b',"tables":' + _text(document.get("tables", {}))[:-1] + b',"bytes":1}}'
    elif way == "bytes":
        content = bytearray(_text(document))
        for _ in range(int(rng.integers(1, 4))):
            content[int(rng.integers(len(content)))] = int(rng.integers(256))
        return bytes(content)
    elif way in ("entries", "many files") and "graphs" in document:
        count = int(rng.choice([10, 500, 3000]))
        if way == "entries":
            document["graphs"] |= {f"score{n}": document["graphs"]["score"] for n in range(count)}
        else:
            document["other_files"] = [document["tables"]] * count * 4
    elif way == "sections" and "sections" in document:
        name = str(rng.choice(list(document["sections"])))
        offset, dtype, shape = document["sections"][name]
        shape = [int(rng.choice([0, 1, 2**31, 2**62, one * 2, one - 1])) for one in shape]
        document["sections"][name] = [int(rng.choice([offset, offset + 1, -64, 2**40])), dtype, shape]
    return _text(document)


def damaged_patch(base: Base, bases: list[Base], way: str, fits: bool, rng: np.random.Generator) -> bytes:
    """Return a patch that is changed in one of `PATCH_WAYS`; with a sha256 that fits, or as it falls."""
    content = bytearray(base.patch)
    stream = zlib.decompress(bytes(content[52:]))
    line, _, parts = stream.partition(b"\n")
    header = json.loads(line)
    if way == "flip":
        content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
    elif way == "cut":
        content = content[: int(rng.integers(len(content)))]
    elif way == "longer":
        content += rng.bytes(int(rng.integers(1, 5000)))
    elif way == "other patch":
        content = bytearray(bases[int(rng.integers(len(bases)))].patch)
    elif way == "size":
        content[44:52] = struct.pack("<Q", int(rng.choice([0, 1, len(stream) - 1, 2**20, 2**31, 2**62])))
    else:
        content[52:], size = _stream(way, header, parts, rng)
        content[44:52] = struct.pack("<Q", size if rng.random() < 0.8 else len(stream))
    if fits and len(content) > 44:
        content[12:44] = hashlib.sha256(content[44:]).digest()
    return bytes(content)


def _stream(way: str, header: dict[str, Any], parts: bytes, rng: np.random.Generator) -> tuple[bytes, int]:
    """Return a deflated stream, and its size when it is inflated."""
    if way == "header":
        line = edit_json(header, str(rng.choice(["value", "remove", "bytes", "repeated key"])), rng)
    elif way == "deep":
        line = edit_json(header, "deep", rng)
    elif way == "empty lists":
        key = str(rng.choice(["files", "sections", "sides", "manifest", "more"]))
        nothing = b",".join([str(rng.choice(["[]", "{}", "0"])).encode()] * int(rng.choice([1000, 100_000, 300_000])))
        line = _text({name: value for name, value in header.items() if name != key})[:-1] + b',"%s":[%s]}' % (
            key.encode(),
            nothing,
        )
    elif way == "names":
        chosen = header["files"] or header["sections"]
        for entry in chosen:
            entry["file" if header["files"] else "name"] = str(
                rng.choice(["../x", "/tmp/x", "manifest.json", "", "a" * 300, "."])
            )
        line = _text(header)
    elif way == "counts":
        header["manifest"] |= {
            "bytes": int(rng.choice([2**22, 2**31, 2**53])),
            "copies": int(rng.choice([0, 10**6, 2**31, 2**62])),
        }
        for side in header["sides"].values():
            side |= {"copies": int(rng.choice([0, 10**6, 2**40])), "changed": int(rng.choice([0, 10**6, 2**40]))}
        line = _text(header)
    elif way == "bomb":
        size = LARGE if rng.random() < 0.3 else 1_500_000
        whole = (_text(header) + b"\n" if rng.random() < 0.5 else b"") + bytes(size)
        return zlib.compress(whole, 1), int(rng.choice([len(whole), 1000]))
    else:
        changed = bytearray(parts)
        for _ in range(int(rng.integers(1, 20))):
            changed[int(rng.integers(len(changed)))] = int(rng.integers(256))
        line, parts = _text(header), bytes(changed)
    stream = line + b"\n" + parts
    return zlib.compress(stream), len(stream)
