"""docs/reference/serve.md: the endpoints and the refusals that it lists are those of the server."""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from pathlib import Path

from starlette.routing import Route

from bench.experiments.serve_attack import cells as attack_cells
from bench.experiments.serve_load import cells as load_cells
from edgerec.serve.app import app_of
from edgerec.serve.server import built
from edgerec.serve.settings import Settings
from tests.serve.conftest import Serve

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "serve.md").read_text()


def cells(label: str) -> list[list[str]]:
    table = PAGE.partition(f"<!-- {label} -->")[2].strip().split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_the_endpoints_are_those_of_the_server(bundle: Path, token_file: Path, tmp_path: Path, serve: Serve) -> None:
    site = tmp_path / "site"
    site.mkdir()
    for name in ("index.html", "worker.mjs"):
        (site / name).touch()
    settings = Settings((f"films={bundle}",), state=tmp_path / "state", page=site, token_file=token_file)
    routes = [route for route in app_of(built(settings)).routes if isinstance(route, Route)]
    found = {(next(iter((route.methods or set()) - {"HEAD"})), route.path) for route in routes}
    listed = {(method, path.strip("`")): right for method, path, right, _ in cells("endpoints")}
    assert {(method, path.replace("{path:path}", "{path}")) for method, path in found} == listed.keys()
    served = serve(f"films={bundle}", "--token-file", token_file, "--page", site)
    for (method, path), right in listed.items():
        answer = served.call(method, path.replace("{path}", "index.html"))
        assert (answer.status == 401) == bool(right), path


def test_the_refusals_are_those_of_the_server() -> None:
    code = "".join(path.read_text() for path in (ROOT / "edgerec" / "serve").glob("*.py"))
    used = {HTTPStatus[name].value for name in re.findall(r"HTTPStatus\.([A-Z_]+)", code)}
    listed = {int(status) for status, _ in cells("statuses")}
    assert {status for status in used if status >= 400} - {500} == listed - {405}  # starlette's own


def test_the_attack_is_that_of_the_result() -> None:
    result = json.loads((ROOT / "bench" / "results" / "serve-attack.json").read_bytes())
    assert cells("serve-attack") == list(map(attack_cells, result["rows"]))
    assert result["faults"] == []
    assert result["requests"] == 10_000


def test_the_load_is_that_of_the_result() -> None:
    result = json.loads((ROOT / "bench" / "results" / "serve-load.json").read_bytes())
    assert cells("serve-load") == list(map(load_cells, result["rows"]))
    load, prose = result["load"], " ".join(PAGE.split())
    assert f"{load['answers']:,} answers" in prose
    assert f"through {load['patches']} patches" in prose
    memory = load["memory_kib"]
    assert f"({memory['last_tenth'] / memory['second_tenth']:.2f} times as much)" in prose
    assert load["faults"] == []
