"""Results on disk follow the JSON Schema that ships with the package; older ones are still read."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from edgerec_bench import Result, read_results
from edgerec_bench.result.file import schema
from edgerec_bench.result.result import SCENARIOS, VERSION

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    Draft202012Validator.check_schema(schema())
    return Draft202012Validator(schema(), format_checker=Draft202012Validator.FORMAT_CHECKER)


def written(result: Result) -> Any:
    return json.loads(json.dumps(result.to_json()))


def test_every_result_follows_the_schema(
    results: list[Result], everything: Result, validator: Draft202012Validator
) -> None:
    for result in (*results, everything, replace(everything, partial="the link dropped")):
        assert [error.message for error in validator.iter_errors(written(result))] == []


@pytest.mark.parametrize(
    "change", [{"version": 1}, {"clock": "sand"}, {"processes": []}, {"more": 1}, {"partial": 3}, {"settings": {}}]
)
def test_something_else_does_not(
    results: list[Result], validator: Draft202012Validator, change: dict[str, object]
) -> None:
    assert not validator.is_valid({**written(results[0]), **change})


def test_the_schema_is_of_this_version() -> None:
    assert schema()["properties"]["version"] == {"const": VERSION}
    assert schema()["$defs"]["settings"]["properties"]["scenarios"]["items"]["enum"] == list(SCENARIOS)
    assert files("edgerec_bench").joinpath("schema", "result.schema.json").is_file()


def test_every_field_is_documented() -> None:
    page = (ROOT / "docs" / "reference" / "results.md").read_text()
    parts = [schema(), *(schema()["$defs"][name] for name in ("process", "latency", "settings", "bundle", "window"))]
    names = [name for part in parts for name in part["properties"]]
    assert [name for name in names if f"`{name}`" not in page] == []


def test_version_1_is_read(results: list[Result], tmp_path: Path) -> None:
    """Its 'score 1' is what lookup is; what it did not measure is absent."""
    old = written(results[0])
    for name in ("clock", "runtime", "partial"):
        del old[name]
    for name in ("scenarios", "sustained_seconds"):
        del old["settings"][name]
    old["settings"]["candidates"] = [1, 50]
    for process in old["processes"]:
        process["scenarios"] = {
            "score 1" if name == "lookup" else name: told for name, told in process["scenarios"].items()
        }
        process.pop("faults", None), process.pop("cost", None)
    path = tmp_path / "old.json"
    path.write_text(json.dumps({**old, "version": 1}))
    (read,) = read_results(path)
    assert isinstance(read, Result)
    assert read.measured.each("lookup") == results[0].measured.each("lookup")
    assert read.settings.candidates == results[0].settings.candidates
    assert read.settings.scenarios == ("recommend", "score", "lookup")
    assert read.partial is None
    assert written(read)["version"] == VERSION
