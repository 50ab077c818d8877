"""The OpenAPI document, which schemathesis makes requests from: valid ones are answered, others refused as it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgerec.runtime import Recommender
from tests.serve.conftest import Serve
from tests.serve.interop.conftest import TOKEN

EXAMPLES = 15
"""Requests that are made of each operation's schema, besides those of its limits."""


def known_ids(document: Any, ids: dict[str, list[int | str]]) -> Any:
    """The document with the ids of a bundle, as 'Item' and 'User' have them; it cannot list those of a catalogue."""
    if isinstance(document, list):
        return [known_ids(one, ids) for one in document]
    if not isinstance(document, dict):
        return document
    found = {name: known_ids(one, ids) for name, one in document.items()}
    title = found.get("title")
    return {**found, "enum": ids[title]} if isinstance(title, str) and title in ids else found


@pytest.mark.slow
@pytest.mark.parametrize("with_users", [False, True])
def test_schemathesis_finds_nothing(
    serve: Serve, bundle: Path, users: Path, tokens: Path, tmp_path: Path, with_users: bool
) -> None:
    folder = users if with_users else bundle
    served = serve(folder, "--token-file", tokens, "--rate", "0")
    document = served.get("/openapi.json").value
    model = Recommender.load(folder)
    ids = {"Item": model.item_ids(range(model.n_items)), "User": list(range(7, 7 + model.n_users))}
    (tmp_path / "openapi.json").write_text(json.dumps(known_ids(document, ids)))
    command = [sys.executable, "-m", "schemathesis.cli", "run", str(tmp_path / "openapi.json"), "--url", served.url]
    command += ["--max-examples", str(EXAMPLES), "--seed", "1", "--header", f"Authorization: Bearer {TOKEN}"]
    # Streams do not end, and polling waits for an event.
    command += ["--exclude-path-regex", "/observe$|/poll$|/events/"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr


def test_the_document_describes_what_the_description_does(serve: Serve, bundle: Path, users: Path) -> None:
    served = serve(f"films={bundle}", f"books={users}")
    document = served.get("/openapi.json").value
    things = served.get("/things").value
    hrefs = {
        f"/{form['href']}" if not form["href"].startswith("http") else form["href"]
        for td in things
        for kind in ("properties", "actions", "events")
        for one in td[kind].values()
        for form in one["forms"]
    }
    assert document["paths"].keys() == hrefs
    assert document["servers"] == [{"url": served.url.rstrip("/")}]
    operations = [one for path in document["paths"].values() for one in path.values()]
    assert len({one["operationId"] for one in operations}) == len(operations)
    assert {tag for one in operations for tag in one["tags"]} == {"films", "books"}
    assert "securitySchemes" not in document["components"]
    recommend = document["paths"]["/books/actions/recommend"]["post"]
    assert recommend["requestBody"]["content"]["application/json"]["schema"]["properties"].keys() >= {"user", "k"}
