"""Comparing results: intervals cover what they promise, a planted slowdown is found, noise is not called one."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import variance

import numpy as np
import pytest
from click.testing import CliRunner

from edgerec.cli.app import group
from edgerec.errors import BenchError
from edgerec_bench import Result, Settings, bench_all, compare, write_results
from edgerec_bench.comparison import (
    AGREE,
    SAME,
    UNSTABLE,
    Comparison,
    Interval,
    Limit,
    failures,
    ratio_interval,
    verdict,
)
from edgerec_bench.result import calls_needed
from edgerec_bench.result.figures import Measured, quality_warnings
from edgerec_bench.result.process import Latency, Process
from tests.conftest import CommandLine

Made = Callable[..., Result]


@pytest.fixture
def made(results: list[Result]) -> Made:
    """A result of the first bundle whose processes' times are made up, with noise from a seeded generator."""

    def make(
        seed: int,
        *,
        times: float = 1.0,
        noise: float = 0.015,
        processes: int = 5,
        machine: float = 1.0,
        share: float = 1.0,
    ) -> Result:
        rng = np.random.default_rng(seed)

        def process() -> Process:
            p50 = times * machine * float(np.exp(rng.normal(0, noise)))
            latency = Latency(9.0, 10, 1000, p50, 1.2 * p50, 1.3 * p50, 1.6 * p50, 3 * p50, 1.1 * p50, cpu_share=share)
            memory = {"VmHWM": 70_000 + int(rng.integers(100))}
            yardstick = machine * float(np.exp(rng.normal(0, 0.005)))
            return Process(5 * p50, None, {"recommend": latency}, memory, {"VmHWM": 60_000}, yardstick)

        return replace(results[0], measured=Measured(tuple(process() for _ in range(processes))))

    return make


def verdicts(base: Result, new: Result) -> dict[str, str]:
    (comparison,) = compare([base], [new])
    return {change.figure: change.verdict for change in comparison.changes}


@pytest.mark.slow
def test_two_real_runs_of_a_bundle_agree_within_5_percent_or_are_not_called_the_same(
    bundles: tuple[Path, Path],
) -> None:
    first, second = bench_all([bundles[0], bundles[0]], Settings(processes=4, calls=50, seconds=0, candidates=(50,)))
    (comparison,) = compare([first], [second])
    assert [change.figure for change in comparison.changes][:6] == [
        "p50",
        "p95",
        "p99",
        "raw ids",
        "score 50",
        "lookup",
    ]
    for change in comparison.changes:
        assert change.verdict != SAME or 1 / 1.05 <= change.interval.ratio <= 1.05


@pytest.mark.slow
def test_runs_of_the_same_bundle_agree_or_are_unstable(made: Made) -> None:
    """At any noise: the same within 5 %, or no verdict; a false alarm no more often than 95 % allow."""
    said: list[str] = []
    for seed in range(200):
        noise = float(np.random.default_rng(seed).uniform(0.005, 0.15))
        (comparison,) = compare([made(seed, noise=noise)], [made(10_000 + seed, noise=noise)])
        p50 = next(change for change in comparison.changes if change.figure == "p50")
        said.append(p50.verdict)
        assert p50.verdict != SAME or 1 / 1.05 <= p50.interval.ratio <= 1.05
    assert said.count(SAME) + said.count(UNSTABLE) >= 0.93 * len(said)
    assert min(said.count(SAME), said.count(UNSTABLE)) > 10


@pytest.mark.parametrize("processes", [3, 5, 10])
def test_a_planted_slowdown_of_10_percent_is_found(made: Made, processes: int) -> None:
    found = [
        verdicts(made(seed, processes=processes), made(900 + seed, processes=processes, times=1.1))["p50"]
        for seed in range(40)
    ]
    assert found.count("slower") >= 37
    assert verdicts(made(1, times=1.1), made(2))["p50"] == "faster"


def test_a_slowdown_that_the_noise_hides_is_unstable(made: Made) -> None:
    assert verdicts(made(1, noise=0.2), made(2, noise=0.2, times=1.1))["p50"] == UNSTABLE
    assert verdicts(made(1, processes=1), made(2, processes=1, times=3.0))["p50"] == UNSTABLE


def test_a_machine_that_became_slower_is_no_slower_bundle(made: Made) -> None:
    (comparison,) = compare([made(1)], [made(2, machine=1.2)])
    said = {change.figure: change.verdict for change in comparison.changes}
    assert comparison.machine_changed
    assert said["p50"] == said["load"] == UNSTABLE
    assert said["peak"] == said["bytes"] == SAME
    assert not failures([Limit.parse("p50 > 1.1x")], [comparison])


def test_where_others_took_the_processor_only_more_than_5_percent_counts(made: Made) -> None:
    assert verdicts(made(1, noise=0.002), made(2, noise=0.002, times=1.04))["p50"] == "slower"
    contested = made(2, noise=0.002, times=1.04, share=0.6)
    assert verdicts(made(1, noise=0.002), contested)["p50"] == SAME
    waited = verdicts(made(1, noise=0.002), made(2, noise=0.002, times=3, share=0.6))
    assert (waited["p50"], waited["p99"], waited["load"]) == ("slower", UNSTABLE, UNSTABLE)
    assert not failures([Limit.parse("load > 2x")], compare([made(1)], [made(2, times=3, share=0.6)]))
    assert verdicts(made(1, noise=0.002), made(2, noise=0.002, times=1.1, share=0.6))["p50"] == "slower"
    assert any("40%" in warning for warning in quality_warnings(contested.measured, {}))


def test_bytes_are_exact(made: Made) -> None:
    larger = replace(made(2), bundle=replace(made(2).bundle, nbytes=made(2).bundle.nbytes + 1))
    assert verdicts(made(1), larger)["bytes"] == "larger"


def test_the_verdict_same_keeps_to_5_percent() -> None:
    assert verdict(Interval(1.0, 0.95, 1.06)) == SAME
    assert verdict(Interval(1.04, 0.99, 1.12)) == UNSTABLE
    assert verdict(Interval(1.07, 1.05, 1.09), AGREE) == "slower"
    assert verdict(Interval(1.06, 1.04, 1.09), AGREE) == UNSTABLE


@pytest.mark.parametrize("processes", [2, 3, 5, 10])
def test_intervals_cover_what_they_promise(processes: int) -> None:
    rng = np.random.default_rng(0)
    draws = np.exp(rng.normal(0, 0.03, (600, 2, processes)))
    intervals = [ratio_interval(base.tolist(), new.tolist()) for base, new in draws]
    assert np.mean([one.low <= 1 <= one.high for one in intervals]) >= 0.93


def test_a_bootstrap_over_so_few_processes_would_not() -> None:
    rng = np.random.default_rng(0)
    base, new = rng.normal(0, 0.03, (2, 600, 3))
    again = rng.integers(0, 3, (2, 600, 500, 3))
    medians = [
        np.median(np.take_along_axis(logs[:, None], picks, 2), 2) for logs, picks in ((base, again[0]), (new, again[1]))
    ]
    low, high = np.quantile(medians[1] - medians[0], [0.025, 0.975], axis=1)
    assert np.mean((low <= 0) & (high >= 0)) < 0.93


@pytest.mark.parametrize(("processes", "quantile"), [(2, 4.303), (3, 2.776), (16, 2.042)])
def test_the_interval_is_students_t(processes: int, quantile: float) -> None:
    """Two equal samples of n values have 2 (n - 1) degrees of freedom."""
    values = [1.0 + number % 2 for number in range(processes)]
    error = math.sqrt(2 * variance([math.log(value) for value in values]) / processes)
    interval = ratio_interval(values, values)
    assert math.log(interval.high) / error == pytest.approx(quantile, abs=5e-4)
    assert interval.low == pytest.approx(1 / interval.high)


def test_calls_that_a_percentile_needs_are_mlperfs() -> None:
    assert [calls_needed(percentile) for percentile in (90, 99)] == [64, 662]


def test_p99_of_few_calls_is_doubted(made: Made) -> None:
    result = made(1)
    few = tuple(
        replace(process, scenarios={"recommend": replace(process.scenarios["recommend"], count=661)})
        for process in result.measured.processes
    )
    assert not list(quality_warnings(result.measured, {}))
    (warning,) = quality_warnings(Measured(few), {})
    assert "recommend 661, 662 are needed" in warning
    assert "coarse" in next(quality_warnings(result.measured, {"clock_ns": 20_000.0}))


def test_unlike_measurements_are_refused_by_name(made: Made) -> None:
    base = made(1)
    device = {**base.device, "cpu": "another one"}
    other = replace(made(2), device=device, settings=replace(base.settings, threads=2))
    with pytest.raises(BenchError, match=r"cpu: .*another one.*threads: '1' and '2'.*--force"):
        compare([base], [other])
    assert compare([base], [other], force=True)
    assert compare([base], [replace(made(2), settings=replace(base.settings, processes=7, calls=9))])


def test_bundles_are_found_by_name(results: list[Result]) -> None:
    assert [one.new for one in compare(results, results[::-1])] == [result.bundle.name for result in results]
    assert [one.new for one in compare(results[:1], results[1:])] == [results[1].bundle.name]
    with pytest.raises(BenchError, match="a name twice"):
        compare([*results, results[0]], results)
    renamed = replace(results[0], bundle=replace(results[0].bundle, name="other"))
    with pytest.raises(BenchError, match="no bundle is in both results"):
        compare(results, [renamed])


@pytest.mark.parametrize(
    "text", ["", "p50", "p50 > 1.1", "p50 < 1.1x", "p50 > x", "p50 > 0x", "p50 > 1.1x or load > 2x"]
)
def test_a_malformed_condition_is_refused(text: str) -> None:
    with pytest.raises(BenchError, match="write FIGURE > NUMBERx"):
        Limit.parse(text)


def test_conditions_hold_beyond_the_interval(made: Made) -> None:
    def comparison(**new: float) -> list[Comparison]:
        return compare([made(1)], [made(2, **new)])

    assert str(Limit.parse("score 50>1.10x")) == "score 50 > 1.1x"
    assert failures([Limit.parse("p50 > 1.1x")], comparison(times=1.3))
    assert not failures([Limit.parse("p50 > 1.1x")], comparison(times=1.11))
    assert failures([Limit.parse("p50 > 1x")], comparison(times=1.11))
    with pytest.raises(BenchError, match=r"no figure 'p75'.*expected one of: p50, p95"):
        failures([Limit.parse("p75 > 1x")], comparison())


def test_the_command_fails_with_1_where_a_condition_holds(made: Made, tmp_path: Path) -> None:
    before, after = tmp_path / "before.json", tmp_path / "after.json"
    write_results(before, [made(1)])
    write_results(after, [made(2, times=1.3)])
    words = ["compare", str(before), str(after)]
    passed = CliRunner().invoke(group, words)
    assert passed.exit_code == 0
    assert "slower" in passed.stdout
    failed = CliRunner().invoke(group, [*words, "--fail-if", "p50 > 1.1x", "--json"])
    assert failed.exit_code == 1
    answer = json.loads(failed.stdout)
    assert answer["comparisons"][0]["changes"][0]["verdict"] == "slower"
    assert answer["failed"][0].startswith("dense.bundle: p50 > 1.1x holds: 1.")


def test_a_malformed_condition_is_status_2(made: Made, tmp_path: Path, command_line: CommandLine) -> None:
    write_results(tmp_path / "r.json", [made(1)])
    done = command_line("compare", "r.json", "r.json", "--fail-if", "p50 is bad", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: 'p50 is bad' is not a condition")
