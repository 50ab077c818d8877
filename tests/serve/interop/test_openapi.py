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
"""Requests that are drawn from each operation's schema."""
UNENDING = "/observe$|/poll$|/events/"
"""Streams, and what waits for an event."""
LONG_LISTS = "recommend$|similar$"
"""Operations of which the limits of lists take schemathesis a minute: 10,000 ids, drawn one by one."""


def known_ids(value: Any, ids: dict[str, list[int | str]]) -> Any:
    """A part of the document with the ids of a bundle as values of 'Item' and 'User', which it cannot list."""
    if isinstance(value, list):
        return [known_ids(one, ids) for one in value]
    if not isinstance(value, dict):
        return value
    found = {name: known_ids(one, ids) for name, one in value.items()}
    title = found.get("title")
    return {**found, "enum": ids[title]} if isinstance(title, str) and title in ids else found


@pytest.mark.slow
@pytest.mark.parametrize("with_users", [False, True])
def test_schemathesis_finds_nothing(
    serve: Serve, bundle: Path, users: Path, tokens: Path, tmp_path: Path, with_users: bool
) -> None:
    folder = users if with_users else bundle
    # Text ids of the longest lists take more than the largest request otherwise may.
    served = serve(folder, "--token-file", tokens, "--rate", "0", "--max-body", str(1 << 20))
    document = served.get("/openapi.json").value
    model = Recommender.load(folder)
    ids = {"Item": model.item_ids(range(model.n_items)), "User": list(range(7, 7 + model.n_users))}
    for path in document["paths"]:
        if not path.endswith("/forget"):  # a session may have ids of another version
            document["paths"][path] = known_ids(document["paths"][path], ids)
    (tmp_path / "openapi.json").write_text(json.dumps(document))

    def run(phases: str, excluded: str) -> None:
        command = [sys.executable, "-m", "schemathesis.cli", "run", str(tmp_path / "openapi.json"), "--url", served.url]
        command += ["--phases", phases, "--exclude-path-regex", excluded, "--max-examples", str(EXAMPLES)]
        command += ["--seed", "1", "--header", f"Authorization: Bearer {TOKEN}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr

    run("coverage", f"{UNENDING}|{LONG_LISTS}")
    run("examples,fuzzing", UNENDING)


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
