"""Patches and bundles that arrive while a server answers: posted, found in a folder, interrupted."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import resource
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from edgerec.runtime import Recommender
from edgerec.serve.server import built
from edgerec.serve.settings import Settings
from edgerec.serve.watch import Watch
from edgerec_export.patch import diff
from tests.patches import broken_copy, contents
from tests.serve.conftest import FEEDBACK, READ, UPDATE, Serve, Served, sha256, until


@pytest.fixture
def served(serve: Serve, bundle: Path, token_file: Path) -> Served:
    served = serve(f"films={bundle}", "--token-file", token_file, "--rate", "0")
    served.token = UPDATE
    return served


@pytest.fixture(scope="module")
def versions(films: Path) -> tuple[Recommender, Recommender]:
    return Recommender.load(films / "old.bundle"), Recommender.load(films / "new.bundle")


def test_a_patch_is_applied_undone_and_heard_of(
    served: Served, films: Path, versions: tuple[Recommender, Recommender]
) -> None:
    old, new = versions
    model, updated, refusals = (
        served.events(path)
        for path in ("/films/properties/model/observe", "/films/events/modelUpdated", "/films/events/patchRefused")
    )
    assert [next(stream) for stream in (model, updated, refusals)] == [200] * 3
    assert next(model)["sha256"] == old.sha256
    tag = served.get("/films").headers["etag"]
    patch = (films / "there.patch").read_bytes()
    answer = served.patch(patch)
    assert (answer.status, answer.value["sha256"]) == (200, new.sha256)
    assert next(model) == next(updated) == answer.value == served.get("/films/properties/model").value
    assert served.get("/films", If_None_Match=tag).status == 200  # its version and examples are others
    assert served.patch(patch).value == answer.value  # again: nothing to do
    assert [one["item"] for one in served.act("recommend").value["items"]] == [one.item for one in new.popular()]
    undone = served.act("undo")
    assert (undone.status, undone.value["sha256"]) == (200, old.sha256)
    assert next(updated)["sha256"] == old.sha256
    again = served.act("undo")
    assert (again.status, again.value["error"]) == (409, "PatchError")
    assert next(refusals)["error"] == "PatchError"
    in_json = served.act("applyPatch", base64.b64encode(patch).decode())
    assert (in_json.status, in_json.value["sha256"]) == (200, new.sha256)
    for content, status in ((patch[:-1], 409), (b"none", 409), (b"", 409), ((films / "there.patch").read_bytes(), 200)):
        assert served.patch(content).status == status
    assert "is damaged" in next(refusals)["detail"]
    assert served.act("applyPatch", "not base64").status == 400
    assert served.act("applyPatch", {"patch": "x"}).status == 400
    assert served.patch(bytes(3 << 20)).status == 413
    assert sha256(served) == new.sha256
    text = served.get("/metrics").raw.decode()
    assert 'edgerec_events_total{thing="films",event="modelUpdated"} 3' in text
    for stream in (model, updated, refusals):
        stream.close()


def test_a_patch_for_another_bundle_names_no_path(served: Served, films: Path, bundle: Path) -> None:
    answer = served.patch((films / "further.patch").read_bytes())
    assert answer.status == 409
    assert "was made for another bundle than the one in films" in answer.value["detail"]
    assert str(bundle.parent) not in answer.raw.decode()


def test_the_next_value_can_be_polled(served: Served, films: Path) -> None:
    answers: list[Any] = []
    polling = threading.Thread(target=lambda: answers.append(served.get("/films/events/modelUpdated/poll").value))
    polling.start()
    until(lambda: served.get("/metrics").raw.count(b"events/modelUpdated/poll") > 0)
    applied = served.patch((films / "there.patch").read_bytes()).value
    polling.join(60)
    assert answers == [applied]


def test_each_answer_is_of_one_version(served: Served, films: Path, versions: tuple[Recommender, Recommender]) -> None:
    """Requests of four threads while patches come and go; a session's history has an item of one version alone."""
    known = {model.sha256: model for model in versions}
    history = [item for item in versions[0].item_ids(range(40)) if len(versions[1].known([item]))][:5]
    expected = {
        sha256: [(one.item, pytest.approx(one.score, rel=1e-6)) for one in model.recommend(history=history, k=7)]
        for sha256, model in known.items()
    }
    wrong, seen, done = list[Any](), set[str](), threading.Event()

    def request() -> None:
        client = served.holding(READ)
        while not done.is_set():
            answer = client.act("recommend", {"history": history, "k": 7})
            if answer.status != 200:
                wrong.append(answer)
                return
            seen.add(answer.value["model"])
            found = [(one["item"], one["score"]) for one in answer.value["items"]]
            if found != expected[answer.value["model"]]:
                wrong.append(answer)

    threads = [threading.Thread(target=request) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(8):
        assert served.patch((films / "there.patch").read_bytes()).status == 200
        assert served.act("undo").status == 200
    done.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert seen == known.keys()


def test_a_kill_in_the_middle_leaves_one_version_and_the_sessions(
    serve: Serve, bundle: Path, token_file: Path, films: Path, versions: tuple[Recommender, Recommender]
) -> None:
    started = (f"films={bundle}", "--token-file", token_file)
    patch, both = (films / "there.patch").read_bytes(), {model.sha256 for model in versions}
    session = {"session": "anna"}
    item = next(one for one in versions[0].item_ids(range(20)) if versions[1].known([one]))
    for wait_s in (0.001, 0.004, 0.012):
        served = serve(*started)
        served.holding(FEEDBACK).act("feedback", {**session, "item": item})
        posting = threading.Thread(target=_ignoring(lambda: served.holding(UPDATE).patch(patch)))  # noqa: B023
        posting.start()
        time.sleep(wait_s)
        served.kill()
        posting.join()
        again = serve(*started)
        assert sha256(again.holding(READ)) in both
        assert Recommender.load(bundle).sha256 in both
        assert again.holding(FEEDBACK).act("history", session).value["items"] == [item]
        assert again.holding(READ).act("recommend", {"k": 5}).status == 200
        again.holding(UPDATE).act("undo")
        assert again.stop() == 0


def _ignoring(call: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        with suppress(OSError, HTTPException):
            call()

    return run


def test_a_full_disk_changes_nothing(serve: Serve, bundle: Path, token_file: Path, films: Path) -> None:
    """Files larger than 2 KB cannot be written; the tables are."""
    before = contents(bundle)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    served = serve(f"films={bundle}", "--token-file", token_file, preexec_fn=limit)
    mine = served.holding(UPDATE)
    refusals = mine.events("/films/events/patchRefused")
    assert next(refusals) == 200
    answer = mine.patch((films / "there.patch").read_bytes())
    assert (answer.status, answer.value["error"]) == (503, "StorageError")
    assert str(bundle.parent) not in str(next(refusals))
    assert answer.headers["retry-after"]
    assert str(bundle) not in answer.raw.decode()
    assert mine.act("recommend").status == 200
    assert served.stop() == 0
    assert contents(bundle) == before


def test_a_version_that_cannot_answer_is_not_left_installed(
    served: Served, bundle: Path, films: Path, tmp_path: Path
) -> None:
    """It is whole, recommends, and onnxruntime does not open another of its graphs."""
    broken = broken_copy(films / "new.bundle", tmp_path / "broken.bundle", "score")
    diff(bundle, broken, tmp_path / "broken.patch")
    before = sha256(served)
    answer = served.patch((tmp_path / "broken.patch").read_bytes())
    assert (answer.status, answer.value["error"]) == (503, "BundleError")
    assert sha256(served) == before == Recommender.load(bundle).sha256
    assert served.patch((films / "there.patch").read_bytes()).status == 200
    assert served.act("undo").value["sha256"] == before


def test_streams_end_when_the_server_stops(served: Served) -> None:
    stream = served.events("/films/events/modelUpdated")
    assert next(stream) == 200
    assert served.stop() == 0
    assert list(stream) == []


def test_patches_of_a_folder_are_applied_in_their_order(
    serve: Serve, bundle: Path, token_file: Path, films: Path, tmp_path: Path, versions: tuple[Recommender, Recommender]
) -> None:
    """The names say nothing of the order; what is damaged is refused once; an undone patch does not come back."""
    _, new = versions
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    third = films / "third.bundle"
    _drop(films / "further.patch", inbox)
    _drop(films / "there.patch", inbox)
    (inbox / "notes.txt").write_text("not a patch")
    (inbox / "link.patch").symlink_to(token_file)
    started = (f"films={bundle}", "--token-file", token_file, "--watch", inbox, "--watch-every", "0.2")
    served = serve(*started)
    served.token = UPDATE
    until(lambda: sha256(served) == Recommender.load(third).sha256)
    assert served.act("undo").value["sha256"] == new.sha256
    refusals = served.events("/films/events/patchRefused")
    assert next(refusals) == 200
    (inbox / "b.patch").write_bytes((films / "there.patch").read_bytes()[:-9])
    _aged(inbox / "b.patch")
    assert next(refusals)["error"] == "PatchError"
    time.sleep(1)
    assert sha256(served) == new.sha256
    assert served.stop() == 0
    assert [json.loads(line)["event"] for line in served.log].count("update refused") == 1
    served = serve(*started)
    served.token = READ
    time.sleep(1)
    assert sha256(served) == new.sha256


def test_files_that_are_gone_are_forgotten(bundle: Path, tmp_path: Path) -> None:
    inbox, memory = tmp_path / "inbox", tmp_path / "memory.json"
    inbox.mkdir()
    settings = Settings(bundles=(f"films={bundle}",), state=tmp_path / "state")
    watch = Watch(built(settings).updaters["films"], str(inbox), 60, memory)
    for name in ("a.patch", "b.patch"):
        (inbox / name).write_bytes(b"none")
        _aged(inbox / name)
        assert not asyncio.run(watch.look())
        assert watch._looked.keys() == {name}
        (inbox / name).unlink()


def _drop(file: Path, folder: Path) -> None:
    shutil.copy(file, folder)
    _aged(folder / file.name)


def _aged(file: Path) -> None:
    """A file that nobody writes to any more."""
    os.utime(file, (1_700_000_000, 1_700_000_000))


def test_bundles_of_a_folder_are_installed_if_they_are_trusted_and_newer(
    serve: Serve, signed: Path, token_file: Path, tmp_path: Path
) -> None:
    bundle = Path(shutil.copytree(signed / "two", tmp_path / "films.bundle"))
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    killed = tmp_path / "state" / "updates" / ".update-killed"
    killed.mkdir(parents=True)
    (killed / "bundle").write_bytes(b"what a killed server unpacked")
    watched = ("--watch", inbox, "--watch-every", "0.2", "--trusted", signed / "mine.pub")
    served = serve(f"films={bundle}", "--token-file", token_file, *watched)
    served.token = UPDATE
    refusals = served.events("/films/events/patchRefused")
    assert next(refusals) == 200
    _drop(signed / "one.edgerec", inbox)
    assert "rollback index 1" in next(refusals)["detail"]
    _drop(signed / "foreign.edgerec", inbox)
    assert "none of the 1 trusted" in next(refusals)["detail"]
    (inbox / "cut.edgerec").write_bytes((signed / "three.edgerec").read_bytes()[:-9])
    _aged(inbox / "cut.edgerec")
    assert str(tmp_path) not in next(refusals)["detail"]
    assert sha256(served) == Recommender.load(signed / "two").sha256
    _drop(signed / "three.edgerec", inbox)
    until(lambda: sha256(served) == Recommender.load(signed / "three").sha256)
    assert Recommender.load(bundle).sha256 == sha256(served)
    assert served.act("undo").status == 409  # to a smaller rollback index
    assert served.stop() == 0
    assert [*killed.parent.iterdir()] == []
    older = tmp_path / "older"
    older.mkdir()
    _drop(signed / "one.edgerec", older)
    (tmp_path / "state" / "watched" / "films.json").unlink()  # or it were known as refused
    forced = serve(f"films={bundle}", "--watch", older, "--watch-every", "0.2", "--allow-rollback")
    until(lambda: sha256(forced) == Recommender.load(signed / "one").sha256)


def test_a_bundle_in_one_file_is_replaced(serve: Serve, signed: Path, token_file: Path, tmp_path: Path) -> None:
    inbox, file = tmp_path / "inbox", Path(shutil.copy(signed / "two.edgerec", tmp_path / "films.edgerec"))
    inbox.mkdir()
    served = serve(file, "--token-file", token_file, "--watch", inbox, "--watch-every", "0.2")
    served.token = UPDATE
    assert "applyPatch" not in served.get("/films").value["actions"]
    assert served.act("undo").status == 409
    _drop(signed / "three.edgerec", inbox)
    until(lambda: sha256(served) == Recommender.load(signed / "three").sha256)
    assert file.read_bytes() == (signed / "three.edgerec").read_bytes()
