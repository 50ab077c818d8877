"""Following a stream leaves a run for each segment, survives a kill at any moment, and refuses what is another's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgerec.data import Interactions, stream
from edgerec.errors import BudgetError, DataError, RunError, SettingError, UnsupportedError
from edgerec.files import sha256
from edgerec.measure import evaluate
from edgerec.methods.stream.result import StreamResult
from edgerec.runtime import Recommender
from edgerec.streaming import StreamRequest, train_stream
from edgerec.tables import PrefixTable
from edgerec.training import Run
from edgerec_export import ExportRequest, diff, export, export_request, from_run

WANTED: dict[str, Any] = {
    "method": "scall",
    "budget": "25%",
    "dimensions": 8,
    "segments": "3",
    "threads": 1,
    "method_settings": {"steps": 3, "groups": 8},
}


def drifting(seed: int = 0, n: int = 1500) -> Interactions:
    """Users and items come and go, so that there are new ones all the time."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(0, 10**6, n))
    drift = np.linspace(0, 40, n).astype(int)
    return Interactions.from_pairs(
        drift + rng.integers(0, 30, n), drift + rng.integers(0, 25, n), timestamps=times, name="drifting"
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StreamResult]:
    folder = tmp_path_factory.mktemp("whole") / "stream"
    return folder, train_stream(drifting(), out=folder, **WANTED)


def contents(folder: Path) -> dict[str, str]:
    """Every file's hash, but of what a kill left half-written; of a search's history what it says without its clock."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".part"):
        name = str(path.relative_to(folder))
        if path.suffix == ".jsonl":
            entries = [json.loads(line) for line in path.read_text().splitlines()]
            found[name] = json.dumps([{**entry, "seconds": 0} for entry in entries])
        else:
            found[name] = sha256(path)
    return found


def test_each_segment_is_a_run_within_the_budget(whole: tuple[Path, StreamResult]) -> None:
    folder, followed = whole
    parts = list(stream(drifting(), "3"))
    assert followed.done
    assert [told.number for told in followed.segments] == [0, 1, 2]
    for told, segment in zip(followed.segments, parts, strict=True):
        run = Run.load(folder / told.run)
        assert isinstance(run.users, PrefixTable)
        assert isinstance(run.items, PrefixTable)
        assert (run.users.n_rows, run.items.n_rows) == segment.known.shape
        assert np.array_equal(run.user_ids, segment.known.user_ids)
        assert run.users.n_values + run.items.n_values == told.values == told.capacity
        assert told.capacity == sum(segment.known.shape) * 2  # 25 % of 8
        assert run.metrics["test"] == told.metrics
        assert segment.measure(run.users.dense(), run.items.dense(), threads=1) == told.metrics
        assert run.item_counts is not None
        assert run.item_counts.tolist() == segment.known.item_counts().tolist()
    assert followed.segments[-1].n_trials == 3 + 2  # equal sizes before, the actor's after
    assert followed.mean()["ndcg@20"] == np.mean([told.metrics["ndcg@20"] for told in followed.segments[1:]])
    assert not list(folder.rglob("checkpoint*"))
    assert StreamResult.load(folder) == followed


def test_the_same_command_finds_what_is_done(whole: tuple[Path, StreamResult]) -> None:
    folder, followed = whole
    before = contents(folder)
    assert train_stream(drifting(), out=folder, resume=True, **WANTED) == followed
    assert contents(folder) == before
    with pytest.raises(RunError, match="--overwrite"):
        train_stream(drifting(), out=folder, **WANTED)
    with pytest.raises(RunError, match="another command"):
        train_stream(drifting(), out=folder, resume=True, **{**WANTED, "budget": "50%"})
    with pytest.raises(RunError, match="another command"):
        train_stream(drifting(1), out=folder, resume=True, **WANTED)


class StopHere(Exception):  # noqa: N818
    """Not an error of ours."""


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["ials", "lightgcn"])
def test_it_goes_on_after_a_stop_at_any_step_to_the_same_bits(backbone: str, tmp_path: Path) -> None:
    wanted = {**WANTED, "backbone": backbone, "first_epochs": 2, "epochs": 2}
    wanted["method_settings"] = {**WANTED["method_settings"], "steps": 2}
    steps: list[Any] = []
    train_stream(drifting(), out=tmp_path / "whole", progress=lambda *step: steps.append(step), **wanted)
    assert {step.phase for _, _, step in steps} == {"search", "final"}
    asked, seen = 0, 0

    def stop(*step: Any) -> None:
        """Let each step but the last one through once; everything is on disk by then, or made again."""
        nonlocal seen
        seen += 1
        if seen >= 2:
            raise StopHere

    while True:
        asked, seen = asked + 1, 0
        try:
            train_stream(drifting(), out=tmp_path / "stopped", resume=True, progress=stop, **wanted)
            break
        except StopHere:
            continue
    assert asked > len(steps) // 3
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


SCRIPT = """
import sys
from pathlib import Path
from tests.streams.test_streaming import WANTED, drifting
from edgerec.streaming import train_stream
def progress(*step):
    print("step", flush=True)
    sys.stdin.readline()
train_stream(drifting(), out=Path(sys.argv[1]), resume=True, progress=progress, **WANTED)
print("done", flush=True)
"""


@pytest.mark.slow
def test_it_survives_kills(whole: tuple[Path, StreamResult], tmp_path: Path) -> None:
    """A process is killed at a step, again and again; what it leaves is the same to the bit."""
    folder, out, kills = whole[0], tmp_path / "killed", 0
    for allowed in (1, 3, 5, 1000):
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", SCRIPT, str(out)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=environment
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            for number, line in enumerate(process.stdout, 1):
                if line == "done\n":
                    break
                process.stdin.write("go on\n")  # as far as the next step at most
                if number == allowed:
                    process.send_signal(signal.SIGKILL)
                    kills += 1
                    break
    assert kills == 3
    assert contents(out) == contents(folder)


def test_a_stream_of_another_command_is_left_alone(tmp_path: Path) -> None:
    def stop(*step: Any) -> None:
        raise StopHere

    with pytest.raises(StopHere):
        train_stream(drifting(), out=tmp_path, progress=stop, **WANTED)
    before = contents(tmp_path)
    with pytest.raises(RunError, match="continue with --resume"):
        train_stream(drifting(), out=tmp_path, **WANTED)
    with pytest.raises(RunError, match="another command"):
        train_stream(drifting(), out=tmp_path, resume=True, **{**WANTED, "seed": 1})
    assert contents(tmp_path) == before
    other = {**WANTED, "method": "uniform", "method_settings": {}, "segments": "2"}
    assert train_stream(drifting(), out=tmp_path, overwrite=True, **other).of == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["segment-00", "segment-01", "stream.json"]


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(RunError, match="holds no stream"):
        train_stream(drifting(), out=tmp_path, overwrite=True, **WANTED)
    with pytest.raises(RunError, match="make one with 'edgerec stream'"):
        StreamResult.load(tmp_path)
    (tmp_path / "stream.json").write_text('{"format": "edgerec.stream", "version": 1}')
    with pytest.raises(RunError, match="damaged"):
        StreamResult.load(tmp_path)


def test_a_budget_that_the_end_cannot_keep_is_refused_at_the_beginning(tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match=r"the last segment of the stream has 1.. rows.*the smallest budget is 1.."):
        train_stream(drifting(), out=tmp_path / "stream", **{**WANTED, "budget": "100"})
    assert not (tmp_path / "stream").exists()


def test_what_does_not_exist_is_refused() -> None:
    for wrong, error in (
        ({"method": "bet"}, UnsupportedError),
        ({"backbone": "svd"}, UnsupportedError),
        ({"precision": "int7"}, UnsupportedError),
        ({"dimensions": 0}, UnsupportedError),
        ({"seed": -1}, SettingError),
        ({"refit": "none"}, SettingError),
        ({"method_settings": {"speed": 1}}, SettingError),
        ({"segments": "weekly"}, DataError),
    ):
        with pytest.raises(error):
            StreamRequest.make(**{**WANTED, **wrong})


@pytest.fixture(scope="module")
def bundles(whole: tuple[Path, StreamResult], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of the segments, each like the one before."""
    folder, made = tmp_path_factory.mktemp("bundles"), list[Path]()
    for told in whole[1].segments:
        source = from_run(Run.load(whole[0] / told.run))
        options = ExportRequest(like=made[-1]) if made else ExportRequest(precision="int8")
        made.append(folder / f"{told.run}.bundle")
        export_request(source, made[-1], options)
    return made


def test_a_segments_bundle_is_measured_as_the_segment_was(whole: tuple[Path, StreamResult], tmp_path: Path) -> None:
    data = drifting()
    for told in whole[1].segments:
        run = Run.load(whole[0] / told.run)
        assert evaluate(run, data, threads=1) == told.metrics
        bundle = export(from_run(run), tmp_path / told.run, precision="fp32").folder
        assert evaluate(Recommender.load(bundle), data) == pytest.approx(told.metrics, abs=1e-6)
    with pytest.raises(DataError, match="no validation part"):
        evaluate(Run.load(whole[0] / "segment-01"), data, part="validation")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["popularity", "scall"])
def test_a_budget_of_a_bundle_is_kept_by_every_segments_bundle(method: str, tmp_path: Path) -> None:
    settings = WANTED["method_settings"] if method == "scall" else {}
    wanted = {**WANTED, "method": method, "budget": "24KiB", "dimensions": 64, "method_settings": settings}
    followed = train_stream(drifting(n=6000), out=tmp_path / "stream", **wanted)
    for told in followed.segments:
        run = Run.load(tmp_path / "stream" / told.run)
        done = export(from_run(run), tmp_path / told.run, precision="fp32")
        assert done.nbytes <= 24 << 10
        assert told.values > 0.9 * told.capacity


def test_consecutive_segments_differ_by_a_patch(bundles: list[Path], tmp_path: Path) -> None:
    model = Recommender.load(bundles[0])
    for number, bundle in enumerate(bundles[1:]):
        model.apply(diff(bundles[number], bundle, tmp_path / "patch").path)
        fresh = Recommender.load(bundle)
        for user in stream(drifting(), "3").segment(number + 1).known.user_ids[::7].tolist():
            assert model.recommend(user=user, k=5) == fresh.recommend(user=user, k=5)
