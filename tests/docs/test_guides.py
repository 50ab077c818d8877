"""The guides for beginners: their commands and programs run, their figures are those of the results."""

from __future__ import annotations

import csv
import gzip
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.experiments.bundle_grid import COMPARED, compared
from docs.films.generate import ratings
from docs.pictures import concepts, layouts, plots
from edgerec.budget import format_bytes
from edgerec.cli.app import run
from edgerec_bench.result.file import read_results
from edgerec_bench.result.scale import ScaleResult, scale_rows
from edgerec_devices.web import files as web_files
from tests.devices.web import films, need_programs
from tests.docs.pages import ROOT, STREAMS, blocks, rows_of

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
    plots.main([str(tmp_path)])
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
    grid = {
        (data, size): dict(zip(COMPARED, (figure.strip("*") for figure in figures), strict=True))
        for data, size, *figures in compared(rows("bundle-grid"))
    }
    films, small = grid["ml-1m", "64KiB"], grid["ml-1m", "32KiB"]
    assert f"64 KiB: {films['svd, fitted']} | a user table in as many bytes: {films['ials, user table']} |" in page
    assert f"32 KiB: {small['lae']} | `svd`, fitted: {small['svd, fitted']} |" in page
    bands, shop = grid["lastfm-hetrec", "256KiB"], grid["amazon-beauty", "1MiB"]
    assert f"256 KiB: {bands['svd, by popularity']} | `svd`, fitted: {bands['svd, fitted']} |" in page
    assert f"128 dimensions: {shop['ials, equal rows']} | 64 dimensions, fitted: {shop['ials, fitted']} |" in page
    beauty = {row["backbone"]: row for row in rows("item-only-sparse") if row["data"] == "amazon-beauty"}
    few, coded = (
        f"{format_bytes(round(row['bytes']['mean']))}: {row['ndcg@20']['mean']:.4f}"
        for row in (beauty["neighbours"], beauty["lae"])
    )
    assert f"Amazon Beauty, {few} | `lae`, {coded} |" in page
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


def test_the_first_pages_programs_recommend_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """That in Java is among the tests of Android's library."""
    need_programs("node")
    monkeypatch.chdir(tmp_path)
    films(tmp_path).rename("app.bundle")
    index = (ROOT / "docs" / "index.md").read_text().replace("50, 181", "50, 81")  # of a hundred films
    (in_python,), (in_javascript,) = (blocks(index, language) for language in ("python", "js"))
    exec(in_python, {})
    expected = capsys.readouterr().out.splitlines()
    library = tmp_path / "node_modules" / "edgerec"
    shutil.copytree(web_files.DIST, library / "dist")
    shutil.copy(ROOT / "devices" / "web" / "package.json", library)
    Path("program.mjs").write_text(in_javascript)
    done = subprocess.run(["node", "program.mjs"], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    titles = [line.rpartition(" ")[0] for line in done.stdout.splitlines()]
    assert titles == [line.rpartition(" ")[0] for line in expected]
    assert len(titles) == 10


@pytest.mark.slow
def test_the_programs_of_fit_and_of_devices_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "orders.csv").write_bytes(gzip.decompress(FILMS.read_bytes()))
    (fitting,), (benching,) = (blocks((GUIDE / page).read_text(), "python") for page in ("fit.md", "devices.md"))
    exec(fitting.replace("minutes=10", "trials=1"), {})
    (tmp_path / "app.bundle").rename("films.bundle")
    exec(benching, {})
    assert all(float(line.split()[-1]) > 0 for line in capsys.readouterr().out.splitlines())


RUN = {
    "README.md": ["python: tests/docs/test_docs.py"],
    "docs/index.md": [
        "java: tests/devices/android/test_java.py",
        "js: tests/docs/test_guides.py",
        "python: tests/docs/test_guides.py",
    ],
    "docs/guide/android-apps.md": ["java: tests/devices/android/test_java.py"],
    "docs/guide/devices.md": ["python: tests/docs/test_guides.py"],
    "docs/guide/embeddings.md": [
        "java: tests/devices/android/test_java.py",
        "js: tests/docs/test_tabs.py",
        "python: tests/docs/test_guides.py",
    ],
    "docs/guide/fit.md": ["python: tests/docs/test_guides.py"],
    "docs/guide/gateway.md": ["js: tests/serve/interop/test_gateway_page.py"],
    "docs/guide/grid.md": ["python: tests/bench/test_grid.py"],
    "docs/guide/javascript.md": ["js: tests/docs/test_javascript_page.py"],
    "docs/guide/no-users.md": [
        "java: tests/devices/android/test_java.py",
        "js: tests/docs/test_tabs.py",
        "python: tests/docs/test_docs.py",
    ],
    "docs/guide/python.md": ["python: tests/docs/test_python.py"],
    "docs/guide/streams.md": ["python: tests/docs/test_streams_page.py"],
    "docs/guide/train.md": ["python: tests/docs/test_docs.py"],
    "docs/guide/updates.md": [
        "java: tests/devices/android/test_java.py",
        "js: tests/docs/test_tabs.py",
        "python: tests/docs/test_updates.py",
    ],
    "docs/reference/results.md": ["python: tests/bench/test_schema.py"],
}
"""Pages with programs, and the tests that run them. A block of `py` is one that no test can run; commands are read by
test_commands.py, and cells of notebooks run when the site is built."""


def test_every_page_with_programs_has_a_test_that_runs_them() -> None:
    found: dict[str, list[str]] = {}
    for path in sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md")]):
        languages = sorted(set(re.findall(r"^ *```(python|js|java)$", path.read_text(), re.MULTILINE)))
        if languages:
            found[path.relative_to(ROOT).as_posix()] = languages
    assert {page: [line.partition(":")[0] for line in lines] for page, lines in RUN.items()} == found
    for page, lines in RUN.items():
        for line in lines:
            assert Path(page).name in (ROOT / line.partition(": ")[2]).read_text(), line
