"""The scenarios beside recommend and score: what each measures, and what is absent where a machine cannot."""

from __future__ import annotations

import mmap
import os
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from edgerec.errors import BenchError
from edgerec_bench import Result, Settings, bench, bench_request
from edgerec_bench.measure import command
from edgerec_bench.result.process import Sustained, Window
from edgerec_bench.result.result import SCENARIOS
from edgerec_devices import Local
from edgerec_devices.agent import counters, isolated
from edgerec_devices.agent.counters import Energy, Instructions, faults_since, page_faults
from tests.bench.conftest import EVERYTHING
from tests.bench.devices import Changed

LINUX = sys.platform == "linux"


@pytest.mark.slow
def test_everything_that_was_asked_for_is_there(everything: Result) -> None:
    measured = everything.measured
    assert list(measured.scenarios) == ["recommend", "recommend, raw ids", "score 50", "lookup", "history"]
    assert measured.throughputs.keys() >= {"batch 1, 1 thread", "batch 256, 1 thread"}
    assert min(measured.throughputs.values()) > 0
    assert measured.sustained is not None
    assert measured.sustained.speed_ratio > 0


@pytest.mark.slow
def test_a_sustained_load_is_watched_each_second_and_once(everything: Result) -> None:
    first, second = everything.measured.processes
    assert not first.sustained
    assert second.sustained == everything.measured.windows
    assert len(second.sustained) >= EVERYTHING.sustained_seconds
    for number, window in enumerate(second.sustained):
        assert window.count > 0
        assert window.at_s >= number


@pytest.mark.skipif(not LINUX, reason="only Linux tells what is in its page cache")
@pytest.mark.slow
def test_a_load_is_cold_or_says_why_it_is_not(everything: Result) -> None:
    for process in everything.measured.processes:
        assert (process.cold is None) == (process.warm_because is not None)
        if process.cold:
            assert process.cold.load_ms > 0
            assert process.cold.first_ms > 0
    told = everything.measured.summary()
    assert told["load"] == ("cold and warm" if "cold" in told else "warm")


@pytest.mark.skipif(not LINUX, reason="only Linux tells what is in its page cache")
def test_files_leave_the_page_cache(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(os.urandom(1 << 20))
    assert counters.resident_pages(path) > 0
    if counters.evict([path]) is None:
        assert counters.resident_pages(path) == 0
    path.read_bytes()
    assert counters.resident_pages(path) > 0
    (tmp_path / "empty").touch()
    assert counters.resident_pages(tmp_path / "empty") == 0


def test_files_that_stay_make_a_warm_load(
    bundles: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, everything: Result
) -> None:
    monkeypatch.setattr(counters, "resident_pages", lambda path: 3)
    answer = isolated.cold_load({"bundle": str(bundles[0]), "threads": 1})
    assert list(answer) == ["warm_because"]
    process = replace(everything.measured.processes[0], cold=None, **answer)
    doubtful = replace(everything, measured=replace(everything.measured, processes=(process,)))
    assert any("load is warm only: " in warning for warning in doubtful.warnings)
    assert doubtful.measured.summary()["load"] == "warm"


def test_page_faults_are_counted() -> None:
    before = page_faults()
    with mmap.mmap(-1, 1 << 20) as fresh:  # what malloc gives may have been used before
        fresh[::4096] = bytes(len(fresh) // 4096)
    if before:
        assert faults_since(before)["minor"] > 0


def test_page_faults_are_told_by_scenario(everything: Result) -> None:
    measured = everything.measured
    if page_faults():
        assert measured.faults("load", "minor") is not None
        assert measured.faults("recommend", "major") is not None
    assert measured.faults("no such scenario", "minor") is None


def test_a_bundle_that_does_not_stay_in_memory_is_told(everything: Result) -> None:
    def told(major: int) -> list[str]:
        process = replace(everything.measured.processes[0], faults={"recommend": {"minor": 0, "major": major}})
        result = replace(everything, measured=replace(everything.measured, processes=(process,)))
        return [warning for warning in result.warnings if "does not stay in" in warning]

    assert told(3) == []
    assert "each call waits for the disk (recommend 90,000 page faults)" in told(90_000)[0]


def test_instructions_are_counted_or_absent() -> None:
    with closing(Instructions()) as counter:
        few = counter.of(lambda: sum(range(10_000)))
        many = counter.of(lambda: sum(range(1_000_000)))
    if few is None:
        assert many is None
    else:
        assert many is not None
        assert 0 < 20 * few < many


def test_without_a_counter_nothing_is_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters, "SYSCALLS", {})
    with closing(Instructions()) as counter:
        assert counter.of(lambda: None) is None


def test_energy_is_that_of_whole_packages(tmp_path: Path) -> None:
    assert Energy(tmp_path).read() is None
    for number, (name, energy) in enumerate([("package-0", 900), ("package-1", 50), ("psys", 1)]):
        zone = tmp_path / f"intel-rapl:{number}"
        zone.mkdir()
        for file, text in (("name", name), ("energy_uj", energy), ("max_energy_range_uj", 1000)):
            (zone / file).write_text(f"{text}\n")
    energy = Energy(tmp_path)
    before = energy.read()
    assert before == [(900, 1000), (50, 1000)]
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("100\n")  # it began again
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("80\n")
    assert energy.joules_since(before) == pytest.approx(230e-6)
    assert energy.joules_since(None) is None
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    assert energy.joules_since(before) is None


def test_a_speed_that_falls_is_told(everything: Result) -> None:
    def told(last: float, **seen: object) -> list[str]:
        windows = (Window(0.0, 9, 1.0, 1800.0, 50.0, "none"), Window(1.0, 9, last, 600.0, 85.0, "throttled now"))
        process = replace(everything.measured.processes[0], sustained=windows)
        result = replace(everything, measured=replace(everything.measured, processes=(process,)))
        return [warning for warning in result.warnings if "sustained: " in warning]

    (warning,) = told(2.0)
    assert "after 2 s the speed fell to 50% (clock 1800 to 600 MHz, 50 to 85 °C, throttled now)" in warning
    assert told(1.05) == []


def test_the_ends_of_a_long_load_are_a_tenth_of_it() -> None:
    windows = [Window(float(second), 1, 1.0 if second < 20 else 3.0) for second in range(40)]
    windows[0] = replace(windows[0], p50_ms=9.0)
    load = Sustained.of(windows)
    assert (load.start_ms, load.end_ms, load.mhz) == (1.0, 3.0, None)


def test_scenarios_are_chosen(bundles: tuple[Path, Path]) -> None:
    device = Changed()
    result = bench(bundles[0], processes=1, calls=5, seconds=0.0, scenarios=("lookup",), device=device)
    assert list(result.measured.scenarios) == ["lookup"]
    assert [request["scenarios"] for request in device.asked if request["task"] == "bundle"] == [["lookup"]]
    assert result.measured.figure("recommend", "p50_ms") is None
    assert result.command.endswith("--scenario lookup")
    with pytest.raises(BenchError, match="unknown scenario 'dance'; expected one of: recommend, score"):
        Settings(scenarios=("dance",))


@pytest.mark.slow
def test_scenarios_of_their_own_have_processes_of_their_own(bundles: tuple[Path, Path]) -> None:
    device = Changed()
    settings = Settings(2, 5, 0.0, candidates=(), scenarios=("load", "sustained"), sustained_seconds=0.1)
    result = bench_request(bundles[0], settings, device=device)
    asked = [request["scenarios"] for request in device.asked if request["task"] == "bundle"]
    assert asked == [[], ["load"], [], ["load"], ["sustained"]]
    assert result.measured.scenarios == ()
    assert result.measured.load_ms is not None


def test_what_an_agent_does_not_tell_is_said(bundles: tuple[Path, Path]) -> None:
    def mute(request: dict[str, object], answer: dict[str, object]) -> dict[str, object]:
        return {name: value for name, value in answer.items() if name not in ("offline", "cold", "warm_because")}

    settings = Settings(1, 5, 0.0, candidates=(), scenarios=("load", "offline"))
    warnings = bench_request(bundles[0], settings, device=Changed(mute)).warnings
    assert [name for name in ("load", "offline") if any(f"{name} was requested" in one for one in warnings)] == [
        "load",
        "offline",
    ]


def test_the_command_says_what_was_measured() -> None:
    settings = Settings(scenarios=("recommend", "load", "sustained"), sustained_seconds=300)
    said = command(["films.bundle"], settings, Local())
    assert "--scenario recommend --scenario load" in said
    assert "--sustained 5" in said
    assert "--scenario" not in command(["films.bundle"], Settings(), Local())
    assert Settings(scenarios=SCENARIOS[::-1]).scenarios == SCENARIOS
