"""Every property and action of a Thing, and its description, by requests to the real server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgerec.runtime import Recommender
from edgerec.serve.description import thing_model
from tests.serve.conftest import READ, TOKENS, Client, Serve, Served


@pytest.fixture(scope="module")
def model(films: Path) -> Recommender:
    return Recommender.load(films / "old.bundle")


@pytest.fixture(scope="module")
def served(serve_all: Serve, films: Path, users: Path) -> Served:
    return serve_all(f"films={films / 'old.bundle'}", f"shop={users}", "--name", "Home", "--max-k", "20")


def test_recommends_as_the_runtime_does(served: Served, model: Recommender) -> None:
    items, some = model.item_ids([3, 5, 8]), model.item_ids([1, 2])
    for given, expected in (
        ({"history": items, "k": 4}, model.recommend(history=items, k=4)),
        ({"history": items}, model.recommend(history=items)),
        ({"history": items, "exclude": items[:1], "k": 3}, model.recommend(history=items, exclude=items[:1], k=3)),
        ({"history": items, "allow": some}, model.recommend(history=items, allow=some)),
        ({"history": items, "rarity": 1.5}, model.recommend(history=items, rarity=1.5)),
        ({"history": [*items, -5], "onUnknown": "skip"}, model.recommend(history=items)),
        ({}, model.popular()),
        ({"k": 2, "history": []}, model.popular(2)),
    ):  # fmt: skip
        answer = served.act("recommend", given)
        assert answer.status == 200, answer.value
        assert answer.value["model"] == model.sha256
        found = answer.value["items"]
        assert [one["item"] for one in found] == [one.item for one in expected]
        assert [one["score"] for one in found] == pytest.approx([one.score for one in expected], rel=1e-6)
        assert [one.get("title") for one in found] == [model.title(one.item) for one in expected]
        assert [one.get("attributes", {}) for one in found] == [model.attributes(one.item) for one in expected]
    assert served.act("recommend").status == 200  # without a body


def test_similar_and_score(served: Served, model: Recommender) -> None:
    one, two, three = model.item_ids([3, 5, 8])
    answer = served.act("similar", {"item": one, "k": 3, "exclude": [two]}).value
    assert [each["item"] for each in answer["items"]] == [each.item for each in model.similar(one, 3, exclude=[two])]
    scores = served.act("score", {"history": [one], "items": [two, three]}).value["scores"]
    assert scores == pytest.approx(model.score(history=[one], items=[two, three]).tolist(), rel=1e-6)


def test_users_and_text_ids(served: Served, users: Path) -> None:
    model = Recommender.load(users)
    answer = served.act("/shop/actions/recommend", {"user": 9, "k": 3})
    assert [one["item"] for one in answer.value["items"]] == [one.item for one in model.recommend(9, 3)]
    item = model.item_ids([0])[0]
    assert isinstance(item, str)
    assert len(served.act("/shop/actions/score", {"user": 9, "items": [item]}).value["scores"]) == 1
    actions = served.get("/shop").value["actions"]
    assert actions.keys() == {"recommend", "similar", "score"}
    assert actions["recommend"]["input"]["properties"].keys() == {"user", "k", "exclude", "allow", "onUnknown"}
    assert served.act("/shop/actions/feedback", {"session": "a", "item": item}).status == 404


def test_sessions_grow_and_are_forgotten(served: Served, model: Recommender) -> None:
    one, two = model.item_ids([3, 5])
    who = {"session": "living room / ü"}
    assert served.act("history", who).value == {**who, "items": []}
    empty = served.act("recommend", {**who, "k": 3}).value["items"]
    assert [each["item"] for each in empty] == [each.item for each in model.popular(3)]
    assert served.act("feedback", {**who, "item": one}).value == {**who, "items": [one]}
    assert served.act("feedback", {**who, "item": two}).value == {**who, "items": [one, two]}
    assert served.act("feedback", {**who, "item": one}).value == {**who, "items": [one, two]}
    found = served.act("recommend", {**who, "k": 5}).value["items"]
    assert [each["item"] for each in found] == [each.item for each in model.recommend(history=[one, two], k=5)]
    scores = served.act("score", {**who, "items": model.item_ids([1])}).value["scores"]
    assert scores == pytest.approx(model.score(history=[one, two], items=model.item_ids([1])).tolist(), rel=1e-6)
    assert served.act("forget", {**who, "item": one}).value == {**who, "items": [two]}
    assert served.act("forget", who).value == {**who, "items": []}
    assert served.act("forget", who).status == 200
    assert served.act("history", who).value == {**who, "items": []}


@pytest.mark.parametrize(
    ("action", "given", "detail"),
    [
        ("recommend", {"k": 0}, "k must be 1 to 20, got 0"),
        ("recommend", {"k": 21}, "k must be 1 to 20, got 21"),
        ("recommend", {"k": True}, "k must be of type integer, got true"),
        ("recommend", {"k": 1.5}, "k must be of type integer, got 1.5"),
        ("recommend", {"history": ["a"]}, 'history[0] must be of type integer, got "a"'),
        ("recommend", {"history": [10**40]}, "is not among the bundle's"),
        ("recommend", {"history": [10**4000]}, "is not among the bundle's"),
        ("recommend", {"history": 5}, "history must be of type array, got 5"),
        ("recommend", {"history": [1] * 1001}, "the length of history must be any to 1000, got 1001"),
        ("recommend", {"history": [], "session": "a"}, "history and session both say who is meant"),
        ("recommend", {"speed": 5}, 'the input has an unknown member "speed"; it may have history, session, k,'),
        ("recommend", [], "the input must be of type object, got list"),
        ("recommend", {"onUnknown": "maybe"}, "onUnknown must be one of error, skip"),
        ("recommend", {"history": [-5]}, "item -5 is not among the bundle's"),
        ("recommend", {"session": ""}, "the length of session must be 1 to 128, got 0"),
        ("similar", {}, "the input has no item; add it"),
        ("score", {"items": [1]}, "a score is one person's; add history or session"),
        ("score", {"history": []}, "the input has no items; add it"),
        ("feedback", {"session": "a"}, "the input has no item; add it"),
        ("feedback", {"session": "a", "item": -5}, "item -5 is not among the bundle's"),
    ],
)
def test_refusals_name_what_is_wrong(served: Served, action: str, given: Any, detail: str) -> None:
    answer = served.act(action, given)
    assert answer.status == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.value["title"] == "Bad Request"
    assert answer.value["status"] == 400
    assert answer.value["error"] == "RequestError"
    assert detail in answer.value["detail"]


def test_other_requests_are_refused(served: Served) -> None:
    for body, kind, status in (
        (b"{", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b'{"k": NaN}', "application/json", 400),
        (b'{"k": 1e999}', "application/json", 400),
        (b'{"k": ' + b"9" * 5000 + b"}", "application/json", 400),
        (b"{}", "text/plain", 415),
        (b"{}", "application/x-www-form-urlencoded", 415),
        (b" " * (300 << 10), "application/json", 413),
    ):
        answer = served.call("POST", "/films/actions/recommend", body, Content_Type=kind)
        assert answer.status == status, body[:20]
        assert answer.value["status"] == status
    for method, path, status in (
        ("GET", "/films/actions/recommend", 405),
        ("PUT", "/films/properties/model", 405),
        ("DELETE", "/films", 405),
        ("GET", "/nothing", 404),
        ("GET", "/films/", 404),
        ("GET", "/films/properties/../../etc/passwd", 404),
        ("GET", "/films/actions/applyPatch", 405),
        ("POST", "/films/actions/applyPatch", 403),  # nobody has the right to it without tokens
        ("POST", "/films/actions/undo", 403),
    ):
        answer = served.call(method, path)
        assert answer.status == status, path
        assert answer.headers["content-type"] == "application/problem+json"


def test_properties(served: Served, model: Recommender) -> None:
    about = model.metadata
    found = served.get("/films/properties/model").value
    assert found.pop("since").endswith("+00:00")
    assert found == {
        "sha256": model.sha256,
        "bytes": about.bytes,
        "items": about.items,
        "users": 0,
        "dimensions": about.d,
        "layout": about.layout,
        "precision": about.precision,
        "format": about.version,
        "rollbackIndex": 0,
        "titles": True,
        "attributes": ["genre"],
    }
    served.act("recommend")
    stats = served.get("/films/properties/stats").value
    assert stats["requests"] >= 1
    assert 0 < stats["p50"] <= stats["p99"]
    assert stats["uptime"] > 0


def test_the_first_values_of_properties_are_streamed(served: Served) -> None:
    for name in ("model", "stats"):
        stream = served.events(f"/films/properties/{name}/observe")
        assert next(stream) == 200
        assert next(stream).keys() == served.get(f"/films/properties/{name}").value.keys()
        stream.close()
    assert served.call("HEAD", "/films/events/modelUpdated").status == 200


def test_several_things_have_a_directory(served: Served) -> None:
    found = served.get("/.well-known/wot")
    assert found.headers["content-type"] == "application/td+json"
    links = found.value["links"]
    assert [one["href"] for one in links] == [f"{served.url}films", f"{served.url}shop"]
    described = [served.get(f"/{one['href'].removeprefix(served.url)}").value for one in links]
    assert [one["title"] for one in described] == ["Home: films", "Home: shop"]
    assert served.get("/things").value == described
    assert len({one["id"] for one in (found.value, *described)}) == 3


def test_the_description_is_stable_and_says_what_is_taken(served: Served, serve: Serve, films: Path) -> None:
    first = served.get("/films")
    assert first.headers["content-type"] == "application/td+json"
    again = served.get("/films", If_None_Match=first.headers["etag"])
    assert (again.status, again.raw) == (304, b"")
    assert served.get("/films", If_None_Match='"other"').status == 200
    td = first.value
    assert td["base"] == served.url
    assert td["securityDefinitions"] == {"none": {"scheme": "nosec"}}
    for name in ("recommend", "similar", "score", "feedback", "history", "forget"):
        action = td["actions"][name]
        (form,) = action["forms"]
        assert form["htv:methodName"] == "POST"
        answer = served.act(f"/{form['href']}", action["input"]["examples"][0])
        assert answer.status == 200, answer.value
        assert answer.value.keys() == set(action["output"]["required"])
    for one in (*td["properties"].values(), *td["events"].values()):
        assert [form["subprotocol"] for form in one["forms"][-2:]] == ["sse", "longpoll"]
        assert {form["contentType"] for form in one["forms"]} == {"application/json"}
    assert "{{" not in json.dumps(td)
    alone = serve(films / "old.bundle")
    found = alone.get("/.well-known/wot").value
    assert found["title"] == "old"
    assert (
        alone.get(
            "/",
        ).headers["location"]
        == "/.well-known/wot"
    )
    assert alone.stop() == 0
    assert serve(films / "old.bundle").get("/old").value["id"] == found["id"]


def test_what_tokens_allow_is_described(serve: Serve, films: Path, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKENS)
    tokens.chmod(0o600)
    td = serve(films / "old.bundle", "--token-file", tokens).get("/.well-known/wot").value
    assert td["securityDefinitions"] == {"bearer": {"scheme": "bearer", "in": "header", "format": "opaque"}}
    assert {"applyPatch", "undo", "feedback"} <= td["actions"].keys()
    assert [one["contentType"] for one in td["actions"]["applyPatch"]["forms"]] == [
        "application/json",
        "application/octet-stream",
    ]
    tokens.write_text(f"read {READ}\n")
    td = serve(films / "old.bundle", "--token-file", tokens).get("/.well-known/wot").value
    assert td["actions"].keys() == {"recommend", "similar", "score"}


def test_the_thing_model(served: Client) -> None:
    found = served.get("/models/recommender")
    assert found.headers["content-type"] == "application/tm+json"
    assert found.value == thing_model()
    assert found.value["@type"] == "tm:ThingModel"
    optional = {one.rpartition("/")[2] for one in found.value["tm:optional"]}
    assert optional == found.value["actions"].keys() - {"recommend", "score"}


def test_health_and_metrics(served: Served) -> None:
    assert served.get("/healthz").value == {"status": "ok"}
    text = served.get("/metrics")
    assert text.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = text.raw.decode().splitlines()
    assert any(
        line.startswith('edgerec_requests_total{thing="films",request="actions/recommend",status="200"}')
        for line in lines
    )
    assert any(line.startswith('edgerec_model_info{thing="shop",sha256="') for line in lines)
    assert len([line for line in lines if line.startswith("# TYPE edgerec_requests_total ")]) == 1
