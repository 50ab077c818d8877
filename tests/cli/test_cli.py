"""The command line as a person uses it: the whole path, JSON for machines."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgerec.cli.app import run
from edgerec.models.encoder import LinearEncoder
from edgerec.tables import PrefixTable
from edgerec_export import Source, export
from tests.cli.conftest import DATA
from tests.conftest import CommandLine


def json_of(done: subprocess.CompletedProcess[str]) -> object:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_recommendations_have_titles_and_leave_out_what_was_seen(place: Path, command_line: CommandLine) -> None:
    shown = command_line("recommend", "ials.bundle", "--user", "5", "-k", "10", cwd=place)
    assert len(re.findall(r"Item \d+", shown.stdout)) == 10
    answers = json_of(command_line("recommend", "ials.bundle", "--user", "5", "--json", cwd=place))
    assert isinstance(answers, list)
    assert {"item", "score", "title"} == set(answers[0])
    without = command_line("recommend", "ials.bundle", "--user", "5", "--data", DATA, "--json", cwd=place)
    shown_again = json_of(without)
    assert isinstance(shown_again, list)
    assert shown_again != answers
    first = str(answers[0]["item"])
    excluded = json_of(command_line("recommend", "ials.bundle", "--user", "5", "--exclude", first, "--json", cwd=place))
    assert isinstance(excluded, list)
    assert [a["item"] for a in excluded][:9] == [a["item"] for a in answers][1:]


def test_rare_items_are_named_more_often_on_request(place: Path, command_line: CommandLine) -> None:
    rare, popular = (
        json_of(command_line("evaluate", "svd.bundle", "--data", DATA, "--rarity", rarity, "--json", cwd=place))
        for rarity in ("1", "-1")
    )
    assert rare[0]["coverage@20"] > popular[0]["coverage@20"]  # type: ignore[index]
    assert rare[0]["popularity@20"] < popular[0]["popularity@20"]  # type: ignore[index]
    words = ("recommend", "svd.bundle", "--history", "5,6", "--json")
    one = json_of(command_line(*words, "--rarity", "1", cwd=place))
    assert one == json_of(command_line(*words, "--rarity", "1", cwd=place)) != json_of(command_line(*words, cwd=place))


def test_a_run_is_exported_with_titles_of_a_table_of_items(
    place: Path, command_line: CommandLine, tmp_path: Path
) -> None:
    items, out = tmp_path / "items.csv", tmp_path / "named"
    items.write_text("item,title\n" + "".join(f"{item},Thing {item}\n" for item in range(200)))
    words = ("export", "ials", "--out", out, "--no-verify", "--item-attributes", items)
    refused = command_line(*words, cwd=place)
    assert "--titles includes the titles of --item-attributes FILE; give both" in refused.stderr
    done = command_line(*words, "--titles", cwd=place)
    assert done.returncode == 0, done.stderr
    answers = json_of(command_line("recommend", out, "--user", "5", "--json", cwd=place))
    assert all(one["title"] == f"Thing {one['item']}" for one in answers)  # type: ignore[index, union-attr]
    items.write_text("item,title\nx7,Soap\n")
    none = command_line(*words, "--titles", "--overwrite", cwd=place)
    assert "has titles of none of the items: its ids are such as 'x7'" in none.stderr


def test_a_bundle_without_users_takes_a_history(place: Path, command_line: CommandLine) -> None:
    given = json_of(command_line("recommend", "svd.bundle", "--history", "3,9,27", "--json", cwd=place))
    assert isinstance(given, list)
    assert len(given) == 10
    from_data = command_line("recommend", "svd.bundle", "--user", "5", "--data", DATA, "--json", cwd=place)
    assert len(json_of(from_data)) == 10  # type: ignore[arg-type]
    refused = command_line("recommend", "svd.bundle", "--user", "5", cwd=place)
    assert refused.returncode == 2
    assert "--history" in refused.stderr


@pytest.mark.slow
def test_no_users_need_ship(place: Path, command_line: CommandLine, tmp_path: Path) -> None:
    """Of a run with users: export tells how good users from histories are, a bundle answers to any, empty ones too."""
    given = ("export", place / "ials", "--out", "b", "--no-users")
    shown = command_line(*given, cwd=tmp_path)
    assert re.search(
        r"users from histories: by encoder ials; test ndcg@20 of these users 0\.\d{4}, of the user table's 0\.",
        shown.stdout,
    )
    made = json_of(command_line(*given, "--json", cwd=tmp_path))["users from histories"]  # type: ignore[index,call-overload]
    metrics = json.loads((place / "ials" / "run.json").read_text())["metrics"]
    assert (made["ndcg@20"], made["ndcg@20 by the table"]) == (
        metrics["encoder"]["ndcg@20"],
        metrics["test"]["ndcg@20"],
    )
    inspected = json_of(command_line("inspect", "b", "--json", cwd=tmp_path))
    assert inspected["metrics (users from histories)"] == metrics["encoder"]  # type: ignore[index,call-overload]
    (card,) = (tmp_path / "b").glob("README-*.md")
    assert f"{metrics['encoder']['ndcg@20']:.4f}" in card.read_text()
    for history in ("3,9,27", ""):
        answers = json_of(command_line("recommend", "b", "--history", history, "--json", cwd=tmp_path))
        assert len(answers) == 10  # type: ignore[arg-type]
    assert command_line("recommend", "b", "--user", "5", "--data", DATA, cwd=tmp_path).returncode == 0


def test_similar_items_are_shown(place: Path, command_line: CommandLine) -> None:
    answers = json_of(command_line("similar", "ials.bundle", "3", "-k", "5", "--json", cwd=place))
    assert isinstance(answers, list)
    assert len(answers) == 5
    assert 3 not in [answer["item"] for answer in answers]
    assert 1 >= answers[0]["score"] >= answers[-1]["score"] >= -1
    assert "Item" in command_line("similar", "ials.bundle", "3", cwd=place).stdout
    refused = command_line("similar", "ials.bundle", "999999", cwd=place)
    assert refused.returncode == 2
    assert "not among" in refused.stderr


@pytest.mark.slow
def test_ids_that_look_like_numbers_may_be_text(tmp_path: Path, command_line: CommandLine) -> None:
    """And a bundle of filtered data takes the history from the data filtered alike."""
    lines = [f"{n % 7 if n % 7 else 'bob'},0{n % 11}\n" for n in range(77)] + ["3,rare\n"]
    (tmp_path / "d.csv").write_text("user,item\n" + "".join(lines))
    trained = ("train", "d.csv", "--method", "dense", "--dimensions", "4", "--min-item", "2", "--out", "run")
    assert command_line(*trained, cwd=tmp_path).returncode == 0
    assert command_line("export", "run", "--out", "b", cwd=tmp_path).returncode == 0
    asked = ("recommend", "b", "--user", "3", "-k", "3", "--json")
    answers = json_of(command_line(*asked, cwd=tmp_path))
    assert isinstance(answers, list)
    without = json_of(command_line(*asked, "--exclude", answers[0]["item"], cwd=tmp_path))
    assert answers[0]["item"] not in [answer["item"] for answer in without]  # type: ignore[attr-defined]
    filtered = ("--data", "d.csv", "--min-item", "2")
    assert json_of(command_line(*asked, *filtered, cwd=tmp_path)) == []


def test_run_and_bundle_are_measured_alike(place: Path, command_line: CommandLine) -> None:
    results = json_of(command_line("evaluate", "ials", "ials.bundle", "--data", DATA, "--json", cwd=place))
    assert isinstance(results, list)
    assert results[0]["ndcg@20"] == pytest.approx(results[1]["ndcg@20"], rel=1e-3)
    bundle = sum(path.stat().st_size for path in (place / "ials.bundle").iterdir())
    assert results[1]["bytes"] == bundle
    other = command_line("evaluate", "ials.bundle", "--data", DATA + "@7", cwd=place)
    assert other.returncode == 2
    assert "fingerprints differ" in other.stderr


def test_inspect_adds_up(place: Path, command_line: CommandLine) -> None:
    facts = json_of(command_line("inspect", "ials.bundle", "--json", cwd=place))
    assert isinstance(facts, dict)
    assert facts["total bytes"] == sum(facts["files"].values())
    assert facts["total bytes"] == sum(path.stat().st_size for path in (place / "ials.bundle").iterdir())
    run = json_of(command_line("inspect", "ials", "--json", cwd=place))
    assert isinstance(run, dict)
    assert run["items"]["values"] + run["users"]["values"] <= 0.5 * 500 * 16
    assert command_line("inspect", "ials", cwd=place).returncode == 0


def test_inspect_refuses_a_bundle_that_did_not_arrive_whole(
    place: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    bundle = tmp_path / "b"
    shutil.copytree(place / "ials.bundle", bundle)
    (graph, *_), (tables,) = bundle.glob("*.onnx"), bundle.glob("tables-*.bin")
    with tables.open("r+b") as stream:
        stream.truncate(tables.stat().st_size - 100)
    cut = command_line("inspect", "b", cwd=tmp_path)
    assert (cut.returncode, cut.stdout) == (2, "")
    assert f"{tables.name} has" in cut.stderr
    shutil.copy(place / "ials.bundle" / tables.name, tables)
    graph.unlink()
    missing = command_line("inspect", "b", cwd=tmp_path)
    assert (missing.returncode, missing.stdout) == (2, "")
    assert f"{graph.name} is missing" in missing.stderr


def test_resuming_nothing_is_told(tmp_path: Path, command_line: CommandLine) -> None:
    wanted = ("train", "synthetic:120x80x2500", "--backbone", "svd", "--budget", "50%", "--out", "run", "--resume")
    assert "run holds nothing to resume: starting from scratch" in command_line(*wanted, cwd=tmp_path).stderr
    assert "nothing to resume" not in command_line(*wanted, cwd=tmp_path).stderr


def test_inspect_sums_blocks_of_one_width_and_shows_what_is_there(tmp_path: Path, command_line: CommandLine) -> None:
    table = PrefixTable.from_dense(np.random.default_rng(0).standard_normal((64, 4)), np.full(64, 4))
    source = Source(table, np.arange(64), encoder=LinearEncoder(np.ones(64, np.float32)))
    export(source, tmp_path / "b", layout="mixed", verify=False)
    path = tmp_path / "b" / "manifest.json"
    manifest = json.loads(path.read_bytes())
    manifest["items"]["blocks"] = [[4, 24], [4, 40]]
    path.write_text(json.dumps(manifest))
    facts = json_of(command_line("inspect", "b", "--json", cwd=tmp_path))
    assert isinstance(facts, dict)
    assert facts["item widths"] == {"4": 64}
    assert "item values" in facts["sections"]
    assert facts["users"] is facts["signed by"] is None
    shown = command_line("inspect", "b", cwd=tmp_path).stdout
    assert not re.search(r"(?i)none|^(users|user widths|signed by|budget|metrics)", shown, re.MULTILINE)


def test_data_is_listed_and_shown(command_line: CommandLine, tmp_path: Path) -> None:
    names = json_of(command_line("data", "list", "--json"))
    assert isinstance(names, list)
    assert {"ml-100k", "gowalla", "synthetic"} <= {entry["name"] for entry in names}
    (tmp_path / "mine.csv").write_text("user,item\n" + "".join(f"u{n % 7},i{n % 5}\n" for n in range(35)))
    shown = json_of(command_line("data", "show", tmp_path / "mine.csv", "--json"))
    assert isinstance(shown, dict)
    assert (shown["users"], shown["items"], shown["interactions"]) == (7, 5, 35)
    with (tmp_path / "mine.csv").open("a") as stream:
        stream.write("rare,i0\n")
    cored = command_line("data", "show", tmp_path / "mine.csv", "--min-user", "2", "--json")
    assert "--min-user and --min-item drop 1 of 36 interactions" in cored.stderr
    assert json.loads(cored.stdout)["dropped by --min-user, --min-item"] == 1


SHOP = """customer_id,thing,ts,price,title
00731-A,x,2024-01-01,9.5,Soap
00731-A,x,2024-01-02T03:04:05,12,"Soap, new"
00732,y,2024-01-03,0.5,Salt
"""


def test_a_shop_needs_no_option_but_for_what_cannot_be_guessed(command_line: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "shop.csv").write_text(SHOP)
    refused = command_line("data", "show", "shop.csv", cwd=tmp_path)
    assert refused.returncode == 2
    assert "has the columns customer_id, thing, ts, price, title; which of them is the item" in refused.stderr
    assert (
        "give --item-column NAME, or numbers from 1 if the first line is no header (there are also --user-"
        in refused.stderr
    )
    words = ("data", "show", "shop.csv", "--item-column", "thing")
    shown = command_line(*words, cwd=tmp_path)
    for line in (
        r"rows read +3",
        r"repeats dropped +1",
        r"columns +user: customer_id, item: thing, time: ts, title: title",
        r"columns ignored +price",
        r"timestamps +ISO dates",
        r"time range +2024-01-02T03:04:05Z to 2024-01-03T00:00:00Z",
        r"titles +True",
    ):
        assert re.search(line, shown.stdout), (line, shown.stdout)
    assert "the timestamps are taken as ISO dates" in shown.stderr
    chosen = json_of(command_line(*words, "--where", "price > 1", "--json", cwd=tmp_path))
    assert isinstance(chosen, dict)
    assert (chosen["rows dropped by filters"], chosen["interactions"]) == (1, 1)


def test_metrics_of_a_sample_have_their_interval(command_line: CommandLine, tmp_path: Path) -> None:
    words = ("train", DATA, "--backbone", "svd", "--dimensions", "4", "--sample-users", "50", "--out", "run")
    assert re.search(r"ndcg@20 +0\.\d{4} ± 0\.\d{4}", command_line(*words, cwd=tmp_path).stdout)


def test_without_a_budget_a_full_table_is_trained(command_line: CommandLine, tmp_path: Path) -> None:
    facts = json_of(command_line("train", DATA, "--backbone", "svd", "--out", "run", "--json", cwd=tmp_path))
    assert isinstance(facts, dict)
    assert (facts["method"], facts["budget"]) == ("dense", None)
    words = ("train", DATA, "--backbone", "svd", "--budget", "10%", "--out", "small", "--json")
    facts = json_of(command_line(*words, cwd=tmp_path))
    assert isinstance(facts, dict)
    assert (facts["method"], facts["budget"]) == ("popularity", "10%")


@pytest.mark.slow
def test_own_tables_are_exported(command_line: CommandLine, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "items.npy", rng.standard_normal((30, 4)))
    np.save(tmp_path / "users.npy", rng.standard_normal((5, 4)))
    (tmp_path / "ids.txt").write_text("".join(f"film-{n}\n" for n in range(30)))
    own = ("export", "--items", "items.npy", "--users", "users.npy", "--ids", "ids.txt", "--out", "b")
    assert command_line(*own, cwd=tmp_path).returncode == 0
    answers = json_of(command_line("recommend", "b", "--user", "3", "--json", cwd=tmp_path))
    assert isinstance(answers, list)
    assert all(answer["item"].startswith("film-") for answer in answers)
    for more in (("--titles",), ("--user-ids", "none.txt")):
        assert command_line(*own, *more, cwd=tmp_path).returncode == 2
    (tmp_path / "ids.txt").write_text("\n" * 30)
    refused = command_line(*own, cwd=tmp_path)
    assert refused.returncode == 2
    assert "ids.txt, line 1" in refused.stderr
    evaluated = command_line("evaluate", "b", "--data", DATA, cwd=tmp_path)
    assert evaluated.returncode == 2
    assert "does not record its training data" in evaluated.stderr


def test_rows_that_ship_as_zeros_are_shown(command_line: CommandLine, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    items = rng.standard_normal((30, 4))
    items[:3] /= 2000
    np.save(tmp_path / "items.npy", items)
    np.save(tmp_path / "users.npy", rng.standard_normal((5, 4)))
    own = ("export", "--items", "items.npy", "--users", "users.npy", "--precision", "int8", "--out", "b", "--no-verify")
    shown = " ".join(command_line(*own, cwd=tmp_path).stdout.split())
    assert "3 item rows are stored as zeros" in shown
    assert json_of(command_line(*own, "--json", cwd=tmp_path))["rounded_to_zero"] == {"item": 3}
    kept = command_line(*own, "--scales", "row", "--json", cwd=tmp_path)
    assert json_of(kept)["rounded_to_zero"] == {}


@pytest.mark.slow
def test_truncation_after_training_is_reported(place: Path, tmp_path: Path, command_line: CommandLine) -> None:
    """By train, export and inspect, as text and as JSON, of the epoch whose vectors are exported."""
    given = ("train", DATA, "--backbone", "lightgcn", "--budget", "20%", "--dimensions", "8", "--epochs", "3")
    given = (*given, "--mask-at", "ego", "--out")
    shown = command_line(*given, "again", cwd=tmp_path).stdout
    told = json_of(command_line(*given, "best", "--split", "random:50/25/25", "--json", cwd=tmp_path))
    again, best = truncation_in(tmp_path / "again", "final"), truncation_in(tmp_path / "best", "choose")
    lost, before = f"{1 - again['norm_share']:.2%}", f"{again['before']:.4f} before"
    text = f"{lost} of the propagated tables' squared norm lost; test ndcg@20 {before}"
    assert re.search(rf"truncated after training +{re.escape(text)}", shown)
    assert told["truncation"] == best  # type: ignore[index,call-overload]
    exported = command_line("export", "best", "--out", "b", "--no-verify", cwd=tmp_path).stdout
    assert f"truncated after training: {1 - best['norm_share']:.2%} of" in exported
    assert json_of(command_line("inspect", "best", "--json", cwd=tmp_path))["truncation after training"] == best  # type: ignore[index,call-overload]
    asked = ("--out", tmp_path / "c", "--no-verify", "--json")
    for folder, truncated in ((tmp_path / "again", again), (place / "ials", None)):
        assert json_of(command_line("export", folder, *asked))["truncation"] == truncated  # type: ignore[index,call-overload]


def truncation_in(folder: Path, phase: str) -> dict[str, float]:
    """Return what a run trained with mask_at=ego should report of its truncation, by its history."""
    run = json.loads((folder / "run.json").read_bytes())
    assert run["config"]["settings"]["mask_at"] == "ego"
    shipped = [entry for entry in run["history"] if entry["epoch"] == run["config"]["epochs"]][-1]
    assert shipped["phase"] == phase
    assert 0 < shipped["kept"] < 1
    before, after = (run["metrics"][part]["ndcg@20"] for part in ("uncut", "test"))
    assert before > after
    return {"norm_share": shipped["kept"], "before": before, "after": after}


def test_a_command_that_found_a_failure_returns_its_own_status(monkeypatch: pytest.MonkeyPatch) -> None:
    for status in (0, 2):
        monkeypatch.setattr("edgerec.cli.doctor.exit_status", lambda _, status=status: status)
        assert run(["doctor"]) == status
    monkeypatch.setattr("edgerec.cli.compare.read_results", lambda _: [])
    monkeypatch.setattr("edgerec.cli.compare.compare", lambda *_, **__: [])
    for failed, status in (([], 0), (["p50"], 1)):
        monkeypatch.setattr("edgerec.cli.compare.failures", lambda *_, failed=failed: failed)
        assert run(["compare", "base.json", "new.json"]) == status


def test_ctrl_c_is_status_130_wherever_it_comes(tmp_path: Path) -> None:
    """In code that was compiled from a string Python would end by the signal instead; an import is full of it."""
    (tmp_path / "caller.py").write_text(
        "import edgerec.cli.app as app\n"
        "from edgerec.cli import main\n"
        "app.run = lambda arguments: exec('raise KeyboardInterrupt')\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-m", "caller"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert done.stderr == ""
