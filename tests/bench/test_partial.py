"""Measuring that ends early keeps what it has, marked; what takes too much memory is said to."""

from __future__ import annotations

import json
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edgerec.cli import bench as cli
from edgerec.cli.app import group
from edgerec.errors import BenchError, DoesNotFitError
from edgerec_bench import Result, Settings, bench_all, bench_request, compare, read_results, report
from tests.bench.devices import Changed
from tests.conftest import interrupted

QUICK = Settings(3, 5, 0.0, candidates=())


def dropping(after: int, error: BaseException) -> Changed:
    """A device whose link drops after so many bundles."""
    done = 0

    def change(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        nonlocal done
        done += request["task"] == "bundle"
        if done > after:
            raise error
        return answer

    return Changed(change)


@pytest.fixture(scope="module")
def partial(bundles: tuple[Path, Path]) -> list[Result]:
    kept: list[Result] = []
    with pytest.raises(BenchError, match="the link dropped"):
        bench_all(bundles, QUICK, device=dropping(3, BenchError("the link dropped")), on_partial=kept.extend)
    return kept


@pytest.mark.slow
def test_what_was_measured_before_an_error_is_kept(partial: list[Result]) -> None:
    assert [len(result.measured.processes) for result in partial] == [1, 2]
    assert {result.partial for result in partial} == {"the link dropped"}
    assert "partial, 1 of 3 processes were measured: the link dropped" in partial[0].warnings[0]


def test_a_bundle_that_was_not_reached_has_no_result(bundles: tuple[Path, Path]) -> None:
    kept: list[Result] = []
    with pytest.raises(BenchError):
        bench_all(bundles, QUICK, device=dropping(1, BenchError("gone")), on_partial=kept.extend)
    assert [result.bundle.name for result in kept] == [bundles[0].name]
    kept.clear()
    with pytest.raises(BenchError):
        bench_all(bundles, QUICK, device=dropping(0, BenchError("gone")), on_partial=kept.extend)
    assert kept == []


def test_what_fails_at_the_end_costs_nothing_before_it(bundles: tuple[Path, Path]) -> None:
    kept: list[Result] = []
    settings = Settings(1, 5, 0.0, candidates=(), scenarios=("recommend", "sustained"), sustained_seconds=0.1)
    with pytest.raises(BenchError):
        bench_all(bundles[:1], settings, device=dropping(1, BenchError("gone")), on_partial=kept.extend)
    assert "recommend" in kept[0].measured.scenarios
    assert kept[0].partial == "gone"


def test_ctrl_c_keeps_it_too(bundles: tuple[Path, Path]) -> None:
    kept: list[Result] = []
    with pytest.raises(KeyboardInterrupt):
        bench_all(bundles[:1], QUICK, device=dropping(1, KeyboardInterrupt()), on_partial=kept.extend)
    assert [result.partial for result in kept] == ["interrupted"]


def test_a_partial_result_is_shown_as_such_and_not_compared(partial: list[Result], tmp_path: Path) -> None:
    report(partial, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "partial, 1 of 3 processes were measured: the link dropped" in page
    assert "dense fp32, partial" in page
    with pytest.raises(BenchError, match=r"is partial \(the link dropped\); measure it again, or give --force"):
        compare(partial[:1], partial[:1])
    assert compare(partial[:1], partial[:1], force=True)


@pytest.mark.slow
def test_the_command_writes_it_and_exits_with_2(
    bundles: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = dropping(2, BenchError("the link dropped"))
    monkeypatch.setattr(cli, "open_device", lambda *_, **__: nullcontext(device))
    out = tmp_path / "r.json"
    words = ["bench", str(bundles[0]), "--calls", "5", "--seconds", "0", "--out", str(out)]
    done = CliRunner().invoke(group, words)
    assert isinstance(done.exception, BenchError)
    assert f"in {out}, marked as partial" in " ".join(done.stderr.split())
    (result,) = read_results(out)
    assert isinstance(result, Result)
    assert (len(result.measured.processes), result.partial) == (2, "the link dropped")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="the measuring processes are seen in /proc")
def test_ctrl_c_writes_it_and_exits_with_130(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    seen: set[str] = set()

    def third_round_has_begun() -> bool:
        """A round is two processes: a bare session and the bundle."""
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (folder / "cwd").readlink() == tmp_path and b"edgerec_devices.agent" in (
                    folder / "cmdline"
                ).read_bytes():
                    seen.add(folder.name)
        return len(seen) > 4

    words = ["bench", bundles[0], "--calls", "5", "--seconds", "0.1", "--processes", "500", "--out", "r.json"]
    done = interrupted(words, third_round_has_begun, cwd=tmp_path)
    assert done.returncode == 130, done.stderr
    assert json.loads((tmp_path / "r.json").read_text())["partial"] == "interrupted"
    assert "Traceback" not in done.stderr


def test_what_does_not_fit_is_said_with_the_memory(bundles: tuple[Path, Path]) -> None:
    error = DoesNotFitError("the measuring process was killed by SIGKILL, as systems do when memory runs out")
    device = Changed(dropping(0, error)._change, memory_bytes=128 << 20, memory_available_bytes=60 << 20)
    with pytest.raises(DoesNotFitError) as told:
        bench_request(bundles[0], QUICK, device=device)
    assert str(told.value).startswith("dense.bundle does not fit: the measuring process was killed by SIGKILL")
    assert str(told.value).endswith("; the device has 128.0 MiB of memory, 60.0 MiB of it free before")
