"""The bundles that the programs in the guides' tabs open, and what they must print."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np

from edgerec.runtime import Recommender
from edgerec_export import ExportRequest, export, from_arrays
from edgerec_export.patch import diff
from tests.devices.web import films
from tests.docs.pages import ROOT, blocks
from tests.patches import Kind, bundles, contents

PAGES = ("no-users", "embeddings", "updates")
FEW = {"181": "81", "172": "72"}
"""Ids of a hundred films for those of the pages."""


def program(page: str, language: str) -> str:
    """The program of a page in a language, for the bundles that `prepare` writes."""
    (code,) = blocks((ROOT / "docs" / "guide" / f"{page}.md").read_text(), language)
    if page == "no-users":
        for item, other in FEW.items():
            code = code.replace(item, other)
    return code


def prepare(folder: Path) -> None:
    """Write what the programs open into a folder for each page."""
    for page in PAGES:
        (folder / page).mkdir()
    films(folder / "no-users")
    vectors = np.random.default_rng(0).standard_normal((40, 16), np.float32)
    category = ["garden" if number in (2, 4, 8) else "kitchen" for number in range(40)]
    mine = from_arrays(vectors, item_ids=[f"sku-{n}" for n in range(40)], attributes={"category": category})
    export(mine, folder / "embeddings" / "mine.bundle", verify=False)
    old, new = bundles(Kind(ExportRequest(precision="int8", verify=False)), folder / "updates")
    diff(old, new, folder / "updates" / "tuesday.patch", verify=False)
    shutil.copytree(old, folder / "updates" / "before")
    old.rename(folder / "updates" / "films.bundle")


def check(folder: Path, said: dict[str, str]) -> None:
    """Compare what the programs of a language printed, by page, with Python's answers."""
    model = Recommender.load(folder / "no-users" / "films.bundle")
    history = [50, 81, 1]
    expected = [one.item for one in model.recommend(history=history, k=10) + model.recommend(history=[], k=10)]
    assert _items(said["no-users"], r"\d+") == [str(item) for item in expected]
    scores = re.search(r"\[ ?(-?[\d.]+, -?[\d.]+) ?\]", said["no-users"])  # two numbers and nothing else
    assert scores
    near = [float(score) for score in scores[1].split(",")]
    assert np.allclose(near, model.score(history=history, items=[72, 7]), atol=1e-5)

    model = Recommender.load(folder / "embeddings" / "mine.bundle")
    found = [
        *model.similar("sku-7", k=3),
        *model.recommend(history=["sku-7", "sku-12"], k=3, allow=["sku-2", "sku-4", "sku-8"]),
        *model.recommend(vector=model.encode(["sku-11"]), k=3),
    ]
    assert _items(said["embeddings"], r"sku-\d+") == [one.item for one in found]

    assert said["updates"].strip() == "true"
    assert contents(folder / "updates" / "films.bundle").items() >= contents(folder / "updates" / "before").items()


def _items(text: str, item: str) -> list[str]:
    """The items of printed recommendations: `{ item: 5, score: 1 }` of JavaScript, `5 1.0` of Java."""
    return re.findall(rf"item: '?({item})", text) or re.findall(rf"({item}) -?\d+\.\d+(?:E-?\d+)?[,\]]", text)
