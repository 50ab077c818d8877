"""The recommender of the front page: trained on the films of docs/films, exported, and written as a script.

A page that is opened from disk may load scripts, but fetch nothing. So the script holds the bundle's files, the kernel
and its library, the very files that a web page would fetch.
"""

from __future__ import annotations

import base64
import json
import tempfile
from pathlib import Path

import edgerec
from docs.films.generate import GENRES, titles
from edgerec_devices.web import files
from edgerec_export import export, from_run

RATINGS = Path(__file__).parent / "films" / "ratings.csv.gz"


def live_script() -> str:
    """Train, export, and return a script that defines `edgerecLive`."""
    data = edgerec.load_data(RATINGS)
    run = edgerec.train(data, backbone="svd", dimensions=16, threads=1)
    names = titles()
    with tempfile.TemporaryDirectory() as folder:
        export(from_run(run), Path(folder) / "films.bundle", precision="int8", users=False, titles=True)
        bundle = {path.name: _text(path) for path in (Path(folder) / "films.bundle").iterdir()}
    content = {
        "library": (files.DIST / "edgerec-kernel.mjs").read_text(),
        "kernel": _text(files.DIST / "edgerec-kernel.wasm"),
        "bundle": bundle,
        "start": [f"f{first + 1:03}" for first in range(0, len(names), len(names) // len(GENRES))],  # one a genre
    }
    return f"globalThis.edgerecLive = {json.dumps(content)};\n"


def _text(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
