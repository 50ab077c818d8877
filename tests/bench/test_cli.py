"""`edgerec bench` and `edgerec report`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from edgerec.cli import bench as cli
from edgerec.cli.app import group
from edgerec_bench import Settings, read_results
from edgerec_bench.result.result import USUAL
from edgerec_devices.registry import KINDS


def edgerec(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "edgerec.cli", *words], capture_output=True, text=True, check=False)


def test_bench_then_report(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    out, page = tmp_path / "both.json", tmp_path / "report.html"
    words = [*map(str, bundles), "--processes", "1", "--calls", "10", "--seconds", "0"]
    done = CliRunner().invoke(group, ["bench", *words, "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "dense.bundle" in done.stdout
    assert len(read_results(out)) == 2
    shown = CliRunner().invoke(group, ["report", str(out), "--out", str(page)])
    assert shown.exit_code == 0, shown.output
    assert page.read_text().startswith("<!doctype html>")


def test_json_for_machines_is_alone_on_standard_output(bundles: tuple[Path, Path]) -> None:
    done = edgerec("bench", str(bundles[0]), "--processes", "1", "--calls", "10", "--seconds", "0", "--json")
    assert done.returncode == 0, done.stderr
    assert [entry["format"] for entry in json.loads(done.stdout)] == ["edgerec.result"]


def test_errors_are_one_line_and_status_2(tmp_path: Path) -> None:
    for words in (["bench", str(tmp_path)], ["report", str(tmp_path / "absent.json")]):
        done = edgerec(*words)
        assert done.returncode == 2
        assert done.stderr.strip().splitlines()[-1].startswith("Error: ")
        assert "Traceback" not in done.stderr


def test_help_shows_an_example() -> None:
    for command in ("bench", "compare", "report", "doctor"):
        done = CliRunner().invoke(group, [command, "--help"])
        assert "Example:" in done.output


def test_flags_choose_what_is_measured(bundles: tuple[Path, Path]) -> None:
    words = ["bench", str(bundles[0]), "--processes", "1", "--calls", "5", "--seconds", "0", "--json"]
    done = CliRunner().invoke(group, [*words, "--scenario", "lookup", "--sustained", "0.01"])
    assert done.exit_code == 0, done.output
    (result,) = json.loads(done.stdout)
    assert result["settings"]["scenarios"] == ["lookup", "sustained"]
    assert result["settings"]["sustained_seconds"] == 0.6
    assert list(result["processes"][0]["scenarios"]) == ["lookup"]
    assert "sustained" in result["summary"]


def test_strict_is_what_mlperf_asks_for() -> None:
    settings = cli._settings(Settings(calls=1000, seconds=1), (), None, strict=True)
    assert (settings.calls, settings.seconds, settings.scenarios) == (1000, 600, USUAL)
    assert cli._settings(Settings(), (), None, strict=True).calls == 662


def test_every_kind_of_device_is_named() -> None:
    shown = " ".join(CliRunner().invoke(group, ["bench", "--help"]).output.split())
    assert all(kind.name in shown for kind in KINDS.values())


def test_memory_is_of_devices_that_are_started(bundles: tuple[Path, Path]) -> None:
    done = edgerec("bench", str(bundles[0]), "--memory", "128M")
    assert done.returncode == 2
    assert "--memory is for devices that are started here" in done.stderr
    assert "cannot read the size" in edgerec("bench", str(bundles[0]), "--memory", "much").stderr
