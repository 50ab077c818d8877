"""The Java library with onnxruntime's Java API for Android: compiled for Java 8, run on this machine's Java."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import zipfile
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgerec.models.encoder import LeastSquaresEncoder, LinearEncoder
from edgerec.runtime import Recommender
from edgerec.tables import DenseTable
from edgerec_devices.adb.parts import LIBRARY
from edgerec_export import export, from_arrays
from edgerec_export.source import Source
from tests.conftest import random_source
from tests.devices.android.parts import ABI, need
from tests.devices.android.unversion import unversioned
from tests.devices.web import films, hostile_graphs, large_bundle, make_patches, not_finite
from tests.docs.tabs import PAGES, check, prepare, program
from tests.vectors.check import FOLDER, names

HERE = Path(__file__).parent
PROJECT = Path(__file__).parents[3] / "devices" / "android"
SOURCES = PROJECT / "edgerec" / "src" / "main" / "java"
PAGE = PROJECT.parents[1] / "docs" / "guide" / "android-apps.md"
BINDING = "libonnxruntime4j_jni.so"
STRICT = ("-Xlint:all", "-Xlint:-options", "-Werror")
TOO_NEW = (
    r"import java\.(nio\.file|time|util\.Base64|util\.HexFormat|lang\.invoke)|\.(readAllBytes|readNBytes|transferTo)\("
)
"""Of Java, what Android 7 has not, though Java 8 has it."""


def compiled(out: Path, sources: list[Path], *options: str) -> Path:
    """A folder of classes."""
    command = ["javac", *STRICT, *options, "-d", str(out), *map(str, sources)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def sources(folder: Path) -> list[Path]:
    found = sorted(folder.rglob("*.java"))
    assert found
    return found


@pytest.fixture(scope="session")
def api(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """onnxruntime's Java API for Android, as it is, and its libraries, which run here beside `shim`."""
    need("javac", "java")
    folder = tmp_path_factory.mktemp("java")
    with zipfile.ZipFile(archive) as content:
        content.extract("classes.jar", folder)
        for name in (LIBRARY, BINDING):
            (folder / name).write_bytes(unversioned(content.read(f"jni/{ABI}/{name}")))
    return folder


@pytest.fixture(scope="session")
def library(api: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The classes of our library, for the oldest Java that Android's tools take."""
    options = ("--release", "8", "-cp", str(api / "classes.jar"))
    return compiled(tmp_path_factory.mktemp("library"), sources(SOURCES), *options)


@pytest.fixture(scope="session")
def programs(api: Path, library: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The classes of the programs that try it."""
    options = ("-cp", f"{api / 'classes.jar'}:{library}")
    return compiled(tmp_path_factory.mktemp("programs"), sources(HERE / "java"), *options)


@pytest.fixture
def java(api: Path, library: Path, programs: Path, shim: Path) -> list[str]:
    """The command that runs a program."""
    classes = f"{api / 'classes.jar'}:{library}:{programs}"
    environment = ["env", f"LD_LIBRARY_PATH={shim}"]
    return [*environment, "java", "-Xmx256m", f"-Donnxruntime.native.path={api}", "-cp", classes]


def ran(java: list[str], program: str, *arguments: str | Path) -> str:
    """The last line of what a program prints."""
    command = [*java, f"org.edgerec.{program}", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout.splitlines()[-1]


def test_the_vectors(java: list[str]) -> None:
    assert ran(java, "Vectors", FOLDER) == f"{len(names())} vectors, 0 failures"


def test_ids_of_version_2(java: list[str]) -> None:
    assert ran(java, "Coded", "1") == "all ids are right"


def test_vectors_whose_ids_are_written_as_version_2(java: list[str], tmp_path: Path) -> None:
    forms = ("titles", "wrong-numbers", "wrong-texts", "lookup", "chunked", "bitmask-fp16-ials", "csr-int8-users")
    shutil.copytree(FOLDER / "keys", tmp_path / "keys")
    assert ran(java, "Rewritten", FOLDER, tmp_path, *forms) == "7 vectors answer as before"


def test_bundles_in_one_file_and_rollback_indices(java: list[str], tmp_path: Path) -> None:
    assert ran(java, "Packed", FOLDER, tmp_path, "1") == "all is unpacked or refused"


def test_attributes_of_items(java: list[str], tmp_path: Path) -> None:
    """Few texts, hundreds and one for each item: numbers of one, two and four bytes."""
    ids = [f"item {n}" for n in range(66_000)]
    genres = ["Drama|Film", "Film", "", "Dramatic", "Drama", "a|Fi|Drama|Film", "|", "Œuvre|映画", "x", "y"]
    texts = {
        "genre": [genres[n % 10] for n in range(len(ids))],
        "code": [f"{n:x}" for n in range(len(ids))],
        "year": [f"{1700 + n % 300}" if n % 7 else "" for n in range(len(ids))],
    }
    rows = np.random.default_rng(0).standard_normal((len(ids), 4), np.float32)
    bundle = export(from_arrays(rows, item_ids=ids, attributes=texts), tmp_path / "shop.bundle", verify=False).folder
    asked = [("genre", value) for value in ("Drama", "Film", "Drama|Film", "Dra", "Drama|", "|", "映画")]
    asked += [("code", "ff"), ("code", "no"), ("year", "1701")]
    expected = {
        "names": list(texts),
        "items": [[item, {name: text[n] for name, text in texts.items() if text[n]}] for n, item in enumerate(ids)],
        "with": [
            [name, value, [ids[n] for n, text in enumerate(texts[name]) if value in {text, *text.split("|")}]]
            for name, value in asked
        ],
    }
    (tmp_path / "expected.json").write_text(json.dumps(expected))
    said = ran(java, "Attributes", FOLDER, tmp_path, bundle, tmp_path / "expected.json")
    assert said == "all attributes are right"


def ranked_by_rarity(model: Recommender, rarity: float, k: int, **request: Any) -> dict[str, Any]:
    """A request and its answer, computed from the scores of all items and the weights of the section w."""
    allow, exclude = request.get("allow"), request.get("exclude", [])
    who = {name: request[name] for name in ("history", "vector") if name in request}
    items = model.item_ids(np.arange(model.n_items))
    scores = model.score(items=items, **who).astype(np.float64)
    weights = model._current.bundle.section("w").astype(np.float64)
    if model.metadata.precision != "fp32":
        weights = (weights / 256) ** 4
    factors = (weights / (weights.max() if rarity > 0 else weights.min())) ** rarity
    changed = np.where(scores > 0, scores * factors, scores / factors).astype(np.float32)
    gone = {*exclude, *request.get("history", [])}
    left = [row for row, item in enumerate(items) if item not in gone and (allow is None or item in allow)]
    best = sorted(left, key=lambda row: (-changed[row], row))[:k]
    answer = {"items": [items[row] for row in best], "scores": changed[best].tolist()}
    return {**request, "k": k, "rarity": rarity, **answer}


def test_rarity(java: list[str], tmp_path: Path) -> None:
    """With weights in floats and in bytes, histories in all graphs and in a graph of their own, ties, and score 0."""
    n, rng = 300, np.random.default_rng(0)
    rows, weights = rng.standard_normal((n, 8), np.float32), rng.uniform(0.1, 3, n).astype(np.float32)
    rows[40:44], weights[40:44], rows[50:53] = rows[40], weights[40], 0
    source = Source(DenseTable(rows), np.arange(n), encoder=LinearEncoder(weights), item_counts=np.arange(n))
    expected: dict[str, Any] = {"answered": {}, "refused": []}
    for precision, takes_vectors in product(("fp32", "int8"), (False, True)):
        place = tmp_path / f"{precision}-{takes_vectors}"
        asked = replace(source, takes_vectors=takes_vectors)
        model = Recommender.load(export(asked, place, precision=precision, verify=False).folder)
        requests: list[dict[str, Any]] = []
        for rarity in (0.3, 1, 2, -1, -1.5):
            limits: list[dict[str, Any]] = [
                {},
                {"exclude": list(range(0, n, 3))},
                {"allow": list(range(10, 40))},  # few, which are scored alone
                {"allow": list(range(0, n, 2)), "exclude": [4, 8, 40]},
                {"allow": [5], "exclude": [5]},
            ]
            requests += [
                ranked_by_rarity(model, rarity, k, history=[7, 19, 3], **one) for one in limits for k in (5, n)
            ]
            if takes_vectors:
                vector = rng.standard_normal(8, np.float32).tolist()
                requests.append(ranked_by_rarity(model, rarity, 20, vector=vector, exclude=[1]))
        expected["answered"][str(place)] = requests
    others = {
        "users": random_source(n, 5),
        "solve": replace(source, encoder=LeastSquaresEncoder(1.0, 1.0)),
        "equal": replace(source, encoder=LinearEncoder(np.full(n, 2, np.float32))),
        "zero": replace(source, encoder=LinearEncoder(np.where(np.arange(n) == 9, np.float32(0), weights))),
        "negative": replace(source, encoder=LinearEncoder(np.where(np.arange(n) == 9, -weights, weights))),
    }
    for name, other in others.items():
        precision = "fp32" if name == "zero" else "int8"
        expected["refused"].append(str(export(other, tmp_path / name, precision=precision, verify=False).folder))
    (tmp_path / "expected.json").write_text(json.dumps(expected))
    count = sum(map(len, expected["answered"].values()))
    assert ran(java, "Rarities", tmp_path / "expected.json") == f"{count} answers are right"


def test_an_app_without_onnxruntimes_library_is_told_so(java: list[str], tmp_path: Path) -> None:
    elsewhere = [f"-Donnxruntime.native.path={tmp_path}" if "native.path" in word else word for word in java]
    told = ran(elsewhere, "WithoutLibrary", FOLDER / "bundles" / "bitmask-fp16-ials")
    assert "depend on com.microsoft.onnxruntime:onnxruntime-android" in told


@pytest.mark.slow
def test_what_apps_rely_on(java: list[str], tmp_path: Path) -> None:
    large = large_bundle(tmp_path)
    not_finite(tmp_path / "damaged")
    assert ran(java, "Behaviour", FOLDER, tmp_path, large, tmp_path / "damaged") == "all is as apps rely on"


@pytest.mark.slow
def test_damaged_bundles_are_refused_by_named_errors(java: list[str], tmp_path: Path) -> None:
    said = ran(java, "Mutations", FOLDER, tmp_path, "1", "150")
    refused, wrong = re.fullmatch(r"(\d+) refused, (\d+) wrong", said).groups()  # type: ignore[union-attr]
    assert wrong == "0"
    assert int(refused) > 75


def test_graphs_that_do_what_no_bundle_does(java: list[str], tmp_path: Path) -> None:
    (tmp_path / "graphs").mkdir()
    hostile = hostile_graphs()
    for name, (content, _) in hostile.items():
        (tmp_path / "graphs" / name).write_bytes(content)
    dividing = sum("divides whole numbers" in said for _, said in hostile.values())
    said = ran(java, "Hostile", FOLDER, tmp_path, tmp_path / "graphs")
    assert said == f"{len(hostile)} refused, {dividing} of them for what they divide"


@pytest.mark.slow
def test_patches_make_the_new_bundle_or_nothing(java: list[str], tmp_path: Path) -> None:
    (tmp_path / "patches").mkdir()
    said = ran(java, "Updates", make_patches(tmp_path / "patches"), tmp_path, "1", "200")
    refused, wrong = re.fullmatch(r"(\d+) refused, (\d+) wrong", said).groups()  # type: ignore[union-attr]
    assert wrong == "0"
    assert int(refused) > 150


def test_the_program_of_the_documentation(java: list[str], tmp_path: Path) -> None:
    """As the page has it, on a bundle without users; Python answers alike."""
    (code, _) = re.findall(r"```java\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "Films.java").write_text(code)
    classes = java[java.index("-cp") + 1]
    compiled(tmp_path, [tmp_path / "Films.java"], "-cp", classes)
    bundle = films(tmp_path)
    command = [*java[:-1], f"{classes}:{tmp_path}", "Films", str(bundle), str(tmp_path / "private")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    model = Recommender.load(bundle)
    nbytes = sum(path.stat().st_size for path in bundle.iterdir())
    assert lines[0] == f"{model.n_items} items, {nbytes} bytes"
    best = model.recommend(history=[1, 7], k=3)
    assert [line.rsplit(" ", 1)[0] for line in lines[1:4]] == [model.title(item) for item, _ in best]
    assert [float(line.rsplit(" ", 1)[1]) for line in lines[1:4]] == pytest.approx(
        [score for _, score in best], abs=1e-5
    )
    assert len(lines) == 7
    assert not list((tmp_path / "private").iterdir())


def test_the_lines_of_the_sites_first_page(java: list[str], tmp_path: Path) -> None:
    (lines,) = re.findall(r"```java\n(.*?)```", (PAGE.parents[1] / "index.md").read_text(), re.DOTALL)
    lines = lines.replace("50, 181", "50, 81")  # of a hundred films
    main = f"public static void main(String[] arguments) {{\n{lines}}}"
    code = f"import java.io.File;\nimport java.util.Arrays;\nimport org.edgerec.*;\npublic class First {{ {main} }}\n"
    (tmp_path / "First.java").write_text(code)
    classes = java[java.index("-cp") + 1]
    compiled(tmp_path, [tmp_path / "First.java"], "-cp", classes)
    films(tmp_path).rename(tmp_path / "app.bundle")
    done = subprocess.run(
        [*java[:-1], f"{classes}:{tmp_path}", "First"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    model = Recommender.load(tmp_path / "app.bundle")
    titles = [model.title(item) for item, _ in model.recommend(history=[50, 81], k=10)]
    assert [line.rpartition(" ")[0] for line in done.stdout.splitlines()] == titles


def test_the_programs_in_the_guides_tabs(java: list[str], tmp_path: Path) -> None:
    """The guides are no-users.md, embeddings.md and updates.md."""
    prepare(tmp_path)
    imports = "".join(
        f"import {name};\n" for name in ("java.io.File", "java.nio.file.*", "java.util.*", "org.edgerec.*")
    )
    names = {page: page.title().replace("-", "") for page in PAGES}
    for page, name in names.items():
        main = f"public static void main(String[] arguments) throws Exception {{\n{program(page, 'java')}}}"
        (tmp_path / f"{name}.java").write_text(f"{imports}public class {name} {{ {main} }}\n")
    classes = java[java.index("-cp") + 1]
    compiled(tmp_path, [tmp_path / f"{name}.java" for name in names.values()], "-cp", classes)
    said = {}
    for page, name in names.items():
        command = [*java[:-1], f"{classes}:{tmp_path}", name]
        done = subprocess.run(command, cwd=tmp_path / page, capture_output=True, text=True, check=False)
        assert done.stderr == ""
        said[page] = done.stdout
    check(tmp_path, said)


def test_the_example_compiles(library: Path, tmp_path: Path) -> None:
    """Against signatures of Android's framework (stubs/README.md): whether it runs, only a phone tells."""
    options = ("--release", "8", "-cp", str(library), "-sourcepath", str(HERE / "stubs"))
    compiled(tmp_path, sources(PROJECT / "example"), *options)


def test_it_calls_nothing_that_android_7_has_not() -> None:
    for path in [*sources(SOURCES), *sources(PROJECT / "example")]:
        assert not re.search(TOO_NEW, path.read_text()), path


def test_the_gradle_files_name_the_official_archive_that_was_tested(api: Path) -> None:
    (named,) = re.findall(r"api '(.*)'", (PROJECT / "edgerec" / "build.gradle").read_text())
    assert named == "com.microsoft.onnxruntime:onnxruntime-android:1.29.0"
    assert b"1.29.0" in (api / LIBRARY).read_bytes()
