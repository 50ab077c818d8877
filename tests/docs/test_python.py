"""The pages on the Python runtime: their programs run, their figures are those of the results."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import numpy as np
import pytest

from bench.experiments.load import cells
from edgerec.runtime import Recommender
from edgerec_export import Source, export
from tests.conftest import history_source, random_source
from tests.docs.pages import ROOT, blocks, rows_of

PAGE = (ROOT / "docs" / "guide" / "python.md").read_text()
SECURITY = (ROOT / "docs" / "reference" / "security.md").read_text()


def test_the_service_answers(tmp_path: Path) -> None:
    bundle = export(random_source(300, 120), tmp_path / "films.bundle", verify=False).folder
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "service.py").write_text(blocks(PAGE, "python")[0].replace("8000", str(port)))
    service = subprocess.Popen([sys.executable, "service.py"], cwd=tmp_path, stderr=subprocess.PIPE)
    try:
        answer = json.loads(asked(f"http://127.0.0.1:{port}/recommend?user=42&k=5", service))
        expected = Recommender.load(bundle).recommend(42, 5)
        assert [(one["item"], one["score"]) for one in answer] == [tuple(one) for one in expected]
        with pytest.raises(HTTPError) as refused:
            urlopen(f"http://127.0.0.1:{port}/recommend?user=0")
        assert "user 0 is not among" in json.loads(refused.value.read())["error"]
        refused.value.close()
    finally:
        service.kill()
        service.communicate()


def asked(url: str, service: subprocess.Popen[bytes]) -> bytes:
    """The answer of a service that has just been started."""
    while service.poll() is None:
        try:
            with urlopen(url) as answer:
                content: bytes = answer.read()
            return content
        except OSError:
            time.sleep(0.05)
    raise AssertionError(service.communicate()[1].decode())


def test_the_app_remembers_and_forgets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    made = history_source(300)
    source = Source(made.items, np.arange(300), encoder=made.encoder, item_counts=np.arange(300))
    model = Recommender.load(export(source, tmp_path / "histories.bundle", verify=False).folder)
    exec(blocks(PAGE, "python")[1], {})
    expected = model.recommend(history=[3, 50, 181], k=5)
    assert capsys.readouterr().out.splitlines() == [str(expected), "(3, 181)"]
    assert list((tmp_path / "state").iterdir()) == []


def test_the_figures_of_loading_are_those_of_the_result() -> None:
    result = json.loads((ROOT / "bench" / "results" / "load-10mb.json").read_text())
    assert rows_of("load", PAGE) == [cells(row) for row in result["rows"]]
    assert all(row["beyond_onnxruntime_ms"] < 250 for row in result["rows"])


def test_the_figures_of_spoilt_bundles_are_those_of_the_result() -> None:
    result = json.loads((ROOT / "bench" / "results" / "fuzz.json").read_text())
    assert rows_of("fuzz", SECURITY) == [[str(value) for value in row.values()] for row in result["rows"]]
    assert result["faults"] == []
    assert sum(row["bundles"] for row in result["rows"]) == 20_000
    kept = [row for row in result["rows"] if row["sha256 made to fit"] == "no"]
    assert all(row["refused"] == row["bundles"] for row in kept)
