"""Two versions of one catalogue, for whoever tests patches between them."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgerec.models.encoder import LeastSquaresEncoder, LinearEncoder
from edgerec.tables import PrefixTable
from edgerec_export import ExportRequest, Source, export_request

SIZES = (1, 2, 3, 5, 8, 13, 16)


@dataclass(frozen=True)
class Kind:
    """What the versions have.

    Attributes:
        subject: 'users', or the encoder that makes them: 'linear' or 'ials'.
        ids: 'int' or 'str'.
        like: the new version keeps the old one's scales and widths.
        titles: items have titles.
        genres: most items have an attribute besides.
        share: of rows that change.
    """

    options: ExportRequest
    subject: str = "users"
    ids: str = "int"
    like: bool = True
    titles: bool = False
    genres: bool = False
    share: float = 0.1


def versions(kind: Kind, seed: int, n_items: int = 120, n_users: int = 30) -> tuple[Source, Source]:
    """Rows are changed, moved to other sizes, deleted and inserted between the two."""
    rng = np.random.default_rng(seed)
    ids = rng.choice(10 * n_items, n_items, replace=False)
    made, sizes = rng.standard_normal((n_items, 16), np.float32), rng.choice(SIZES, n_items)
    users = rng.standard_normal((n_users, 16), np.float32), rng.choice(SIZES, n_users)
    weights, counts = rng.random(n_items, np.float32), rng.integers(1, 100, n_items)

    def source() -> Source:
        raw: Any = np.array([f"film {one}é" for one in ids]) if kind.ids == "str" else ids.copy()
        encoder = LinearEncoder(weights.copy()) if kind.subject == "linear" else LeastSquaresEncoder(3, 20)
        common: dict[str, Any] = {
            "item_counts": counts.copy(),
            "titles": np.array([f"Title {one % 7 * '!'}" for one in ids]) if kind.titles else None,
            "attributes": {"genre": np.array(["", "Drama", "Comedy|Drama"])[ids % 3]} if kind.genres else {},
            "about": {"backbone": "random"},
        }
        items = PrefixTable.from_dense(made, sizes)
        if kind.subject != "users":
            return Source(items, raw, encoder=encoder, **common)
        return Source(items, raw, PrefixTable.from_dense(*users), np.arange(n_users) + 7, **common)

    old = source()
    changed = np.flatnonzero(rng.random(n_items) < kind.share)
    made[changed] += rng.standard_normal((changed.size, 16), np.float32)
    sizes[changed[::2]] = rng.choice(SIZES, changed[::2].size)
    users[0][:3] *= 0.5
    weights[changed] += 1
    counts[changed] += 50
    kept = rng.random(n_items) > kind.share / 2
    more = int(kind.share * n_items / 2)
    ids = np.concatenate([ids[kept], rng.choice(np.setdiff1d(np.arange(20 * n_items), ids), more, replace=False)])
    made = np.concatenate([made[kept], rng.standard_normal((more, 16), np.float32)])
    sizes = np.concatenate([sizes[kept], rng.choice(SIZES, more)])
    weights, counts = np.append(weights[kept], np.ones(more, np.float32)), np.append(counts[kept], np.ones(more, int))
    return old, source()


def bundles(kind: Kind, folder: Path, seed: int = 0, n_items: int = 120) -> tuple[Path, Path]:
    """Both versions as bundles in `folder`."""
    old, new = versions(kind, seed, n_items)
    before = export_request(old, folder / "old.bundle", kind.options).folder
    how = ExportRequest(like=before, verify=kind.options.verify, sign=kind.options.sign) if kind.like else kind.options
    return before, export_request(new, folder / "new.bundle", how).folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def broken_copy(bundle: Path, out: Path, name: str) -> Path:
    """A copy of a bundle that is whole, but onnxruntime does not open the graph of this name."""
    shutil.copytree(bundle, out)
    manifest = json.loads((out / "manifest.json").read_text())
    about = manifest["graphs"][name]
    graph = onnx.load_model_from_string((out / about["file"]).read_bytes())
    next(node for node in graph.graph.node if len(node.input) > 1).input[0] = "nowhere"
    content = graph.SerializeToString()
    digest = sha256(content).hexdigest()
    about |= {"file": f"{name}-{digest[:12]}.onnx", "bytes": len(content), "sha256": digest}
    (out / about["file"]).write_bytes(content)
    (out / "manifest.json").write_text(json.dumps(manifest))
    return out
