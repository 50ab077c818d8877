"""Figures of real fresh processes: what is there and what it adds up to, never how fast it was."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgerec.errors import BenchError, BundleError
from edgerec.models.encoder import LeastSquaresEncoder
from edgerec.runtime.memory import one_node_model, run_bare_session
from edgerec_bench import Result, Settings, bench, bench_request
from edgerec_bench.measure import command
from edgerec_bench.result.figures import Measured
from edgerec_bench.result.process import Latency, Process
from edgerec_devices import Local
from edgerec_devices.agent.clock import Limits, time_calls, warm_up
from edgerec_export import export, from_arrays
from tests.bench.conftest import QUICK
from tests.bench.devices import Answer, Changed

HAS_PROC = Path("/proc/self/status").exists()


def test_every_scenario_of_every_process_is_measured(results: list[Result]) -> None:
    for result in results:
        assert len(result.measured.processes) == QUICK.processes
        for process in result.measured.processes:
            assert list(process.scenarios) == ["recommend", "recommend, raw ids", "score 50", "lookup"]
            assert process.load_ms > 0
            assert process.verify_ms is not None
            assert process.yardstick_ms is not None
            for latency in process.scenarios.values():
                assert latency.count >= QUICK.calls
                assert list(latency.curve_ms.values()) == sorted(latency.curve_ms.values())
                assert latency.curve_ms["50"] == latency.p50_ms
                assert 0 < latency.p50_ms <= latency.p90_ms <= latency.p95_ms <= latency.p99_ms <= latency.max_ms


def test_a_bundle_whose_users_are_solved_for_is_measured_in_every_scenario(tmp_path: Path) -> None:
    """A call is of the 'encode' graph, then of the one that is asked."""
    items = np.random.default_rng(0).standard_normal((300, 8))
    source = from_arrays(items, None, encoder=LeastSquaresEncoder(3.0, 20.0))
    export(source, tmp_path / "b", verify=False)
    result = bench(tmp_path / "b", processes=1, calls=5, seconds=0.0, candidates=(50,))
    (process,) = result.measured.processes
    assert list(process.scenarios) == ["recommend", "recommend, raw ids", "score 50", "lookup", "history"]
    assert result.bundle.users == 0


def test_parts_sum_to_the_bytes_on_disk(results: list[Result], bundles: tuple[Path, Path]) -> None:
    for result, folder in zip(results, bundles, strict=True):
        on_disk = sum(path.stat().st_size for path in folder.iterdir())
        assert result.bundle.nbytes == on_disk == sum(result.bundle.parts.values())
        assert result.bundle.metric("ndcg@20") == 0.25
        assert result.bundle.metric("coverage@20") is None


@pytest.mark.skipif(not HAS_PROC, reason="memory is read from /proc")
def test_memory_is_read_in_the_process_and_beside_a_bare_session(results: list[Result]) -> None:
    measured = results[0].measured
    peak, bare = measured.memory("VmHWM"), measured.processes[0].bare["VmHWM"] * 1024
    assert peak is not None
    assert peak > bare // 2
    assert measured.above_bare("VmHWM") is not None
    assert measured.above_bare("no such figure") is None


def test_the_device_names_its_versions(results: list[Result]) -> None:
    device = results[0].device
    assert device["numpy"] == np.__version__
    assert device["cores"] == os.cpu_count()
    assert device["ort_telemetry"] == "off"


def test_the_command_measures_the_same_again(results: list[Result]) -> None:
    assert results[0].command.startswith("edgerec bench ")
    assert f"--processes {QUICK.processes} --calls {QUICK.calls}" in results[0].command


def test_the_command_has_the_memory_that_the_device_was_given() -> None:
    device = Local()
    assert "--memory" not in command(["films.bundle"], QUICK, device)
    device.memory = 128 << 20
    assert " --memory 134217728 " in command(["films.bundle"], QUICK, device)


def test_what_was_asked_to_take_long_may_and_the_next_may_not(bundles: tuple[Path, Path]) -> None:
    limits: list[float] = []

    def noted(request: Answer, answer: Answer) -> Answer:
        limits.append(device.timeout)
        return answer

    device, long = Changed(noted), replace(QUICK, processes=1, seconds=0.01)
    bench_request(bundles[0], long, device=device)
    assert long.lasts_s > 0
    assert set(limits) == {600 + long.lasts_s}
    assert device.timeout == 600


def test_a_folder_without_a_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is no bundle"):
        bench_request(tmp_path, QUICK)


def test_k_above_the_catalogue_is_refused(bundles: tuple[Path, Path]) -> None:
    with pytest.raises(BenchError, match="has only 500 items and k is 501"):
        bench(bundles[0], k=501)


def test_settings_that_measure_nothing_are_refused() -> None:
    with pytest.raises(BenchError, match="processes must be 1 or more"):
        Settings(processes=0)
    with pytest.raises(BenchError, match="must not be negative"):
        Settings(exclude=-1)


def test_warm_up_ends_where_the_calls_are_as_fast_as_later_ones() -> None:
    assert warm_up([9.0] * 20 + [1.0] * 80) == 20
    assert warm_up([1.0] * 100) == 0
    assert warm_up([9.0] * 60 + [1.0] * 40) in (0, 50)
    assert warm_up([3.0, 2.0]) == 0
    one_lucky_window = [9.0] * 10 + [1.0] * 10 + [9.0] * 20 + [1.0] * 60
    assert warm_up(one_lucky_window) == 40


def test_calls_that_become_slower_are_drifting() -> None:
    def process(drift: float) -> Process:
        return Process(1.0, None, {"recommend": Latency(1.0, 0, 9, 1, 1, 1, 1, 1, 1, drift)}, {}, {})

    assert Measured((process(0.2), process(0.1), process(0.0))).drifting() == ["recommend +10%"]
    assert not Measured((process(0.2), process(0.0), process(0.0))).drifting()


def test_a_device_that_held_its_clock_back_is_doubted(results: list[Result]) -> None:
    def told(flags: str) -> list[str]:
        doubtful = replace(results[0], device={**results[0].device, "throttled": flags})
        return [warning for warning in doubtful.warnings if "clock back" in warning]

    assert told("none") == []
    assert "(throttled now); cool it" in told("throttled now")[0]


def test_calls_are_counted_without_warm_up() -> None:
    prepared = iter(range(1_000_000))
    figures = time_calls(lambda: next(prepared), lambda number: sum(range(2000 if number < 30 else 20)), Limits(100, 0))
    assert figures["count"] >= 100
    assert figures["count"] + figures["warm_up"] + 1 == next(prepared)


def test_the_one_node_model_opens_and_runs() -> None:
    assert len(one_node_model()) < 128
    run_bare_session(1)


def test_processes_that_differ_are_called_unsteady() -> None:
    def process(p50: float) -> Process:
        return Process(1.0, None, {"recommend": Latency(1.0, 0, 9, p50, p50, p50, p50, p50, p50)}, {}, {})

    steady = Measured((process(1.0), process(1.02), process(1.05)))
    assert steady.spread() == pytest.approx(0.05 / 1.02)
    assert not steady.unsteady()
    assert Measured((process(1.0), process(1.2))).unsteady() == ["recommend 18%"]
    assert steady.verify_ms is None
    assert steady.above_bare("VmHWM") is None
