"""Bundles without raw ids: rows stand for them, and a map outside the bundle says which is which."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgerec.api import train
from edgerec.data import Interactions
from edgerec.errors import BudgetError, ExportError, RequestError, StorageError, UnsupportedError
from edgerec.measure import evaluate
from edgerec.models.encoder import LinearEncoder
from edgerec.runtime import Recommender
from edgerec_export import ExportRequest, export, export_request, from_run
from edgerec_export.layouts import LAYOUTS
from tests.conftest import CommandLine, history_source, random_source

SOURCE = random_source(500, 120)


def id_map(path: Path) -> dict[str, dict[int, str]]:
    """Raw ids by side and row."""
    found: dict[str, dict[int, str]] = {"item": {}, "user": {}}
    with path.open(newline="", encoding="utf-8") as stream:
        for line in csv.DictReader(stream):
            found[line["side"]][int(line["row"])] = line["id"]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_rows_answer_as_the_ids_do_that_they_stand_for(layout: str, tmp_path: Path) -> None:
    named = Recommender.load(export(SOURCE, tmp_path / "named", layout=layout, verify=False).folder)
    options = ExportRequest(layout, ids="none", id_map=tmp_path / "ids.csv")
    done = export_request(SOURCE, tmp_path / "b", options)
    assert done.nbytes < named.manifest.nbytes - 64
    model = Recommender.load(done.folder)
    ids = id_map(tmp_path / "ids.csv")
    assert [ids["item"][row] for row in range(500)] == [str(one) for one in done.item_ids.tolist()]
    assert done.user_ids is not None
    user = done.user_ids.tolist().index(57)
    assert ids["user"][user] == "57"
    answers = model.recommend(user, 10, exclude=[0, 3])
    exclude = [int(ids["item"][row]) for row in (0, 3)]
    assert [int(ids["item"][int(a.item)]) for a in answers] == [
        a.item for a in named.recommend(57, 10, exclude=exclude)
    ]
    for wrong in (500, -1, "3", True, 2**70):
        with pytest.raises(RequestError, match="not among the bundle's 500 items"):
            model.score(user, [wrong])


def test_text_ids_are_mapped_as_they_are(tmp_path: Path) -> None:
    export(history_source(30), tmp_path / "b", ids="none", id_map=tmp_path / "ids.csv", verify=False)
    ids = id_map(tmp_path / "ids.csv")
    assert sorted(ids["item"].values()) == sorted(f"film-{n}é" for n in range(30))
    assert not ids["user"]
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    assert manifest["items"]["ids"] == "none"
    assert not [name for name in manifest["sections"] if "_id" in name]


def test_the_map_stands_outside_and_before_the_bundle(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="choose another --id-map"):
        export(SOURCE, tmp_path / "b", ids="none", id_map=tmp_path / "b" / "ids.csv")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"ids\.csv"):
        export(SOURCE, tmp_path / "b", ids="none", id_map=tmp_path / "file" / "ids.csv", verify=False)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with pytest.raises(UnsupportedError, match="raw, none"):
        ExportRequest(ids="hashed")


def test_what_needs_ids_says_so(interactions: Interactions, tmp_path: Path) -> None:
    run = train(interactions, backbone="svd", method="dense", dimensions=4, max_epochs=1)
    model = Recommender.load(export(from_run(run), tmp_path / "b", ids="none", verify=False).folder)
    with pytest.raises(RequestError, match="give the --id-map that its export wrote"):
        evaluate(model, interactions)


@pytest.mark.slow
def test_the_command_line_asks_for_the_map(command_line: CommandLine, tmp_path: Path) -> None:
    for name, rows in (("items", 30), ("users", 10)):
        np.save(tmp_path / f"{name}.npy", np.random.default_rng(0).standard_normal((rows, 4)))
    own = ["export", "--items", "items.npy", "--users", "users.npy", "--no-verify", "--out", "b", "--ids", "none"]
    refused = command_line(*own, cwd=tmp_path)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "needs --id-map FILE" in refused.stderr
    done = command_line(*own, "--id-map", "ids.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(id_map(tmp_path / "ids.csv")["item"]) == list(range(30))
    answered = command_line("recommend", "b", "--user", "3", "-k", "2", "--json", cwd=tmp_path)
    assert len(json.loads(answered.stdout)) == 2
    refused = command_line("recommend", "b", "--user", "3", "--data", "synthetic:30x20x200", cwd=tmp_path)
    assert "this bundle has no ids" in refused.stderr


@pytest.mark.parametrize("users", [True, False])
def test_the_map_lets_a_bundle_without_ids_be_measured(users: bool, interactions: Interactions, tmp_path: Path) -> None:
    run = from_run(train(interactions, backbone="ials", method="dense", dimensions=8, threads=1))
    named = export(run, tmp_path / "named", users=users, verify=False).folder
    bare = export(run, tmp_path / "bare", users=users, ids="none", id_map=tmp_path / "ids.csv", verify=False).folder
    wanted = evaluate(Recommender.load(named), interactions)
    assert evaluate(Recommender.load(bare), interactions, id_map=tmp_path / "ids.csv") == wanted
    lines = (tmp_path / "ids.csv").read_text().splitlines()
    for content, message in (
        ("\n".join(lines[:-1]), "does not name the"),
        ("a,b\n1,2", "is no id map"),
        ("\n".join([lines[0], lines[1].rpartition(",")[0] + ",nobody", *lines[2:]]), "names no item"),
    ):
        (tmp_path / "other.csv").write_text(content)
        with pytest.raises(RequestError, match=message):
            evaluate(Recommender.load(bare), interactions, id_map=tmp_path / "other.csv")


@pytest.mark.parametrize(
    ("what", "cure"), [("users", "--no-users"), ("texts", "--ids hash64"), ("graphs", "--out NAME.edgerec")]
)
def test_refusals_name_what_takes_the_room(what: str, cure: str, tmp_path: Path) -> None:
    """And with the cure the limit is met."""
    source, options = history_source(60, d=4), ExportRequest(layout="dense", precision="int8", verify=False)
    with_cure = options
    if what == "users":
        few = random_source(60, 4000)
        source = replace(few, encoder=LinearEncoder(np.ones(60, np.float32)))
        with_cure = replace(options, users=False)
    if what == "texts":
        source = replace(source, item_ids=np.array([f"{n * 7919 % 97:x}" * 60 + f"-{n}" for n in range(60)]))
        with_cure = replace(options, ids="hash64")
    place = tmp_path / ("b.edgerec" if what == "graphs" else "b")
    limit = export_request(source, place, with_cure).nbytes + 200
    with pytest.raises(BudgetError, match=rf": ([^:]* or )?{cure}( or [^:]*)?$"):
        export_request(source, tmp_path / "never", replace(options, max_bytes=limit))
    assert export_request(source, place, replace(with_cure, max_bytes=limit)).nbytes <= limit
