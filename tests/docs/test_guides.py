"""The guides for beginners: their commands and programs run, their figures are those of the results."""

from __future__ import annotations

import csv
import gzip
import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from docs.films.generate import ratings
from docs.pictures import concepts, layouts
from edgerec.budget import format_bytes
from edgerec.cli.app import run
from edgerec_bench.result.file import read_results
from edgerec_bench.result.scale import ScaleResult, scale_rows
from tests.docs.test_docs import ROOT, STREAMS, blocks, rows_of

GUIDE = ROOT / "docs" / "guide"
FILMS = ROOT / "docs" / "films" / "ratings.csv.gz"


def run_all(page: str, **replaced: str) -> None:
    """Run the commands of a page; `replaced` are words of them that a test has no time for."""
    for block in blocks((GUIDE / page).read_text(), "console"):
        for line in block.splitlines():
            if line.startswith("$ "):
                for word, other in replaced.items():
                    line = line.replace(word, other)
                assert run(shlex.split(line.removeprefix("$ "))[1:]) == 0, line


def test_the_films_are_those_of_their_program() -> None:
    assert gzip.decompress(FILMS.read_bytes()).decode() == ratings()


def test_the_pictures_are_those_of_their_programs(tmp_path: Path) -> None:
    layouts.main(tmp_path)
    concepts.main([str(tmp_path)])
    stored = {path.name: path.read_text() for path in (ROOT / "docs" / "pictures").glob("*.svg")}
    assert stored == {path.name: path.read_text() for path in tmp_path.iterdir()}


@pytest.mark.slow
def test_five_minutes_lead_to_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(FILMS, tmp_path)
    run_all("five-minutes.md", **{"--trials 3": "--trials 1"})
    assert {"index.html", "sw.js"} <= {path.name for path in (tmp_path / "page").iterdir()}
    assert "user: user, item: item, title: title" in capsys.readouterr().out


def test_own_embeddings_become_a_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    vectors = np.random.default_rng(0).standard_normal((40, 16)).astype(np.float32)
    np.save("vectors.npy", vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    ids = [f"sku-{number}" for number in range(40)]
    (tmp_path / "ids.txt").write_text("\n".join(ids))
    with (tmp_path / "catalogue.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [("id", "title", "category"), *((one, f"Spade {one}", "garden") for one in ids[::2])]
        )
    run_all("embeddings.md")
    capsys.readouterr()
    (program,) = blocks((GUIDE / "embeddings.md").read_text(), "python")
    exec(program, {})
    near, allowed, *found = capsys.readouterr().out.splitlines()
    assert near.startswith("[Recommendation(item='sku-")
    assert {word.strip("',") for word in allowed.split() if "sku-" in word}
    assert found[0].startswith("sku-11 ")  # the vector itself is the nearest


def rows(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((ROOT / "bench" / "results" / f"{name}.json").read_text())["rows"]
    return found


def test_the_advice_on_methods_rests_on_the_results() -> None:
    page = (GUIDE / "which-method.md").read_text()
    trained = rows("trained-ml-1m")
    fitted = {(row["backbone"], row["users"]): row["ndcg"] for row in trained if row["limit"] == 64 << 10}
    assert f"64 KiB: {fitted['svd', False]:.4f} | a user table in as many bytes: {fitted['ials', True]:.4f} |" in page
    small = {row["backbone"]: row["ndcg@20"]["mean"] for row in rows("item-only") if row["size"] == "32KiB"}
    assert f"32 KiB: {small['lae']:.4f} | `svd`, fitted: {small['svd']:.4f} |" in page
    beauty = {
        row["backbone"]: row["ndcg@20"]["mean"] for row in rows("item-only-sets") if row["data"] == "amazon-beauty"
    }
    assert f"an item: {beauty['ials']:.4f} | `lae`: {beauty['lae']:.4f} |" in page
    full, int8 = (
        next(row for row in trained if (row["backbone"], row["users"], row["stored"]) == ("ials", True, stored))
        for stored in ("dense fp32", "dense int8")
    )
    assert (
        f"MovieLens-1M: {int8['ndcg']:.4f} in {format_bytes(int8['nbytes'])} | "
        f"fp32: {full['ndcg']:.4f} in {format_bytes(full['nbytes'])} |" in page
    )
    (scale,) = read_results(ROOT / "bench" / "results" / "scale-1m.json")
    assert isinstance(scale, ScaleResult)
    times = dict(scale_rows(scale, ("", "p50 ms")))
    assert f"{times['EdgeRec mixed int8']} ms | dense fp32: {times['plain dense ONNX']} ms |" in page
    sparse = json.loads((ROOT / "bench" / "results" / "sparse-quality.json").read_text())["leads"]
    assert f"best mean in {sum(lead['ahead'] for lead in sparse)} of {len(sparse)} cells" in page
    gains = {row[1]: row[4] for row in rows_of("streams-ml-1m", STREAMS) if row[0] == "10%"}
    assert f"10%: {gains['scall']} over equal sizes | `popularity`: {gains['popularity']} |" in page
