"""Results on disk: what is written comes back, what is damaged or newer is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgerec.errors import BenchError
from edgerec_bench import Result, read_results, write_results


@pytest.fixture
def fields(results: list[Result]) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(json.dumps(results[0].to_json()))
    return value


def test_results_come_back_equal(results: list[Result], tmp_path: Path) -> None:
    write_results(tmp_path / "one.json", results[:1])
    write_results(tmp_path / "both.json", results)
    assert isinstance(json.loads((tmp_path / "one.json").read_text()), dict)
    assert read_results(tmp_path / "one.json") == results[:1]
    assert read_results(tmp_path / "both.json") == results


def test_the_summary_is_for_readers_and_never_read_back(
    results: list[Result], fields: dict[str, Any], tmp_path: Path
) -> None:
    assert fields["summary"]["scenarios"]["recommend"]["p50_ms"] == results[0].measured.latency()
    fields["summary"] = {"load_ms": 0}
    (tmp_path / "r.json").write_text(json.dumps(fields))
    assert read_results(tmp_path / "r.json") == results[:1]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": 3}, "upgrade"),
        ({"format": "something else"}, "is no result"),
        ({"processes": []}, "is damaged"),
        ({"processes": [{"load_ms": 1}]}, "is damaged"),
        ({"bundle": {"name": "films"}}, "is damaged"),
        ({"settings": 3}, "is damaged"),
    ],
)
def test_what_cannot_be_trusted_is_refused(
    fields: dict[str, Any], tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    path = tmp_path / "changed.json"
    path.write_text(json.dumps({**fields, **change}))
    with pytest.raises(BenchError, match=f"changed.json .*{reason}"):
        read_results(path)


@pytest.mark.parametrize("content", ["", '{"format": "edgerec.res', "[]", "[1]", "3"])
def test_what_is_no_result_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(BenchError, match=r"other\.json"):
        read_results(path)


def test_a_missing_file_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="edgerec bench BUNDLE --out"):
        read_results(tmp_path / "absent.json")


@pytest.mark.parametrize("change", [{"nbytes": "abc"}, {"about": []}, {"parts": 3}, {"parts": {"tables": "many"}}])
def test_bundle_facts_of_another_type_are_refused(
    results: list[Result], tmp_path: Path, change: dict[str, object]
) -> None:
    fields = results[0].to_json()
    fields["bundle"] = {**fields["bundle"], **change}
    path = tmp_path / "r.json"
    path.write_text(json.dumps(fields))
    with pytest.raises(BenchError, match=r"r\.json is damaged"):
        read_results(path)
