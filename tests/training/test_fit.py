"""The loop around backbones: choosing on validation, killed at any point and continued to the same result."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgerec.api import TrainRequest, train, train_request
from edgerec.data import Interactions
from edgerec.data import split as split_interactions
from edgerec.data.synthetic import synthetic
from edgerec.errors import BudgetError, RunError, SettingError, TableError, UnsupportedError
from edgerec.methods import METHODS, Job
from edgerec.methods.rules import Uniform, UniformConfig
from edgerec.models import BACKBONES, SizePlan
from edgerec.models import backbone as find_backbone
from edgerec.training import Fit, FitOptions, FitResult, Run, Step
from edgerec.training.checkpoint import FILE_NAME as CHECKPOINT
from tests.conftest import CommandLine, interrupted

ONE_THREAD = FitOptions(seed=3, threads=1, max_epochs=4)


class KilledError(Exception):
    """Stands for whatever ends a process between two epochs."""


def same(a: Run, b: Run) -> bool:
    """To the bit."""
    users = (a.users is None and b.users is None) or (
        a.users is not None and b.users is not None and np.array_equal(a.users.dense(), b.users.dense())
    )
    return users and np.array_equal(a.items.dense(), b.items.dense()) and a.metrics == b.metrics


def train_in_pieces(interactions: Interactions, request: TrainRequest, out: Path) -> Run:
    """Train in `out`, stopped in the second epoch of every attempt, until nothing is left to do."""
    before: dict[str, bytes] = {}
    while True:
        steps: list[Step] = []

        def stop_at_second(step: Step, steps: list[Step] = steps) -> None:
            steps.append(step)
            if len(steps) == 2:
                raise KilledError

        try:
            run = train_request(interactions, request, out=out, resume=True, progress=stop_at_second)
        except KilledError:
            after = {path.name: path.read_bytes() for path in out.glob("checkpoint*")}
            assert after != before, "each attempt gets one epoch further"
            before = after
        else:
            assert not list(out.glob("checkpoint*"))
            return run


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("split", ["random:80/20", "random:50/25/25"])
def test_a_fit_stopped_after_every_epoch_ends_as_one_that_was_not(
    backbone: str, split: str, interactions: Interactions, tmp_path: Path
) -> None:
    request = TrainRequest.make(backbone, "uniform", budget="50%", dimensions=8, split=split, **vars(ONE_THREAD))
    whole = train_request(interactions, request)

    resumed = train_in_pieces(interactions, request, tmp_path)
    assert same(whole, resumed)
    assert same(whole, Run.load(tmp_path))


def test_the_same_seed_gives_the_same_bits_and_another_does_not(interactions: Interactions) -> None:
    for backbone in ("ials", "mf"):
        runs = [
            train(interactions, backbone=backbone, method="dense", dimensions=8, split=split, **vars(options))
            for options, split in ((ONE_THREAD, "random:80/20"), (ONE_THREAD, "random:80/20"))
        ]
        assert same(*runs)
        other = FitOptions(seed=4, threads=1, max_epochs=4)
        assert not same(runs[0], train(interactions, backbone=backbone, method="dense", dimensions=8, **vars(other)))


def test_the_final_model_knows_the_validation_part(interactions: Interactions) -> None:
    """80/20 and 50+25/25 train again on all of train for as many epochs as were best; 50/25/25 keeps the best epoch's
    vectors."""
    two, again, kept = (
        train(interactions, method="dense", dimensions=8, split=split, **vars(ONE_THREAD))
        for split in ("random:80/20", "random:50+25/25", "random:50/25/25")
    )
    for run in (two, again):
        assert [e["phase"] for e in run.history].count("final") == run.config["epochs"]
    assert [e for e in again.history if e["phase"] != "final"] == kept.history
    assert again.metrics["validation"] == kept.metrics["validation"]
    assert again.metrics["test"] != kept.metrics["test"]
    assert {e["phase"] for e in kept.history} == {"settings", "choose"}
    best = max((e for e in kept.history if e["phase"] == "choose"), key=lambda entry: entry["ndcg@20"])
    assert best["epoch"] == kept.config["epochs"]
    assert kept.metrics["validation"]["ndcg@20"] == best["ndcg@20"]


@pytest.mark.parametrize("name", ["ials", "mf"])
def test_what_was_chosen_before_is_not_chosen_again(name: str, interactions: Interactions) -> None:
    """The final training alone ends as both together do; iALS has settings to choose."""
    model, parts = find_backbone(name), split_interactions(interactions, "random:80/20")
    config = model.config(alpha=None) if name == "ials" else model.config()
    first = Fit(model, parts.without_final(), SizePlan(8), config, ONE_THREAD).run()
    steps: list[Step] = []
    after = Fit(model, parts, SizePlan(8), config, ONE_THREAD, chosen=first, progress=steps.append).run()
    whole = Fit(model, parts, SizePlan(8), config, ONE_THREAD).run()
    assert {step.phase for step in steps} == {"final"}
    assert np.array_equal(after.vectors.items, whole.vectors.items)
    assert (after.config, after.epochs, after.validation, after.history) == (
        whole.config,
        whole.epochs,
        whole.validation,
        whole.history,
    )


def test_patience_ends_a_fit(interactions: Interactions) -> None:
    options = FitOptions(threads=1, max_epochs=500, patience=2)
    run = train(interactions, backbone="mf", method="dense", dimensions=8, **vars(options))
    epochs = [entry["epoch"] for entry in run.history if entry["phase"] == "choose"]
    assert max(epochs) == run.config["epochs"] + 2


@pytest.mark.slow
def test_patience_waits_for_the_epochs_that_a_method_needs(interactions: Interactions) -> None:
    """A mask that is still moving is not given up, also where it began better than it goes on."""
    options = FitOptions(threads=1, max_epochs=30, patience=2)
    wanted = {"backbone": "mf", "method": "set", "budget": "50%", "dimensions": 8, "settings": {"lr": 1e-6}}
    for horizon in (1, 12):
        run = train(interactions, **wanted, method_settings={"horizon": horizon}, **vars(options))
        epochs = [entry["epoch"] for entry in run.history if entry["phase"] == "choose"]
        assert max(epochs) == max(run.config["epochs"], horizon) + 2


@pytest.mark.slow
def test_a_killed_process_is_resumed_from_the_command_line(tmp_path: Path, command_line: CommandLine) -> None:
    """SIGKILL, wherever it hits, and the same tables in the end as without it."""
    arguments = ["train", "synthetic:300x200x9000", "--backbone", "mf", "--budget", "50%", "--dimensions", "8"]
    arguments += ["--threads", "1", "--epochs", "30", "--patience", "30", "--json", "--out"]
    whole = command_line(*arguments, tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    out = tmp_path / "killed"
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "edgerec.cli", *arguments, str(out)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not (out / CHECKPOINT).exists() and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    unfinished = command_line(*arguments, out)
    assert unfinished.returncode == 2
    assert "--resume" in unfinished.stderr
    resumed = command_line(*arguments, out, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout)["metrics"] == json.loads(whole.stdout)["metrics"]
    assert same(Run.load(out), Run.load(tmp_path / "whole"))


KILLED_AT_EVERY_WRITE = """
import os, signal, sys
from pathlib import Path
from edgerec.api import train
from edgerec.data import load_data

OPERATIONS = {"open", "os.mkdir", "os.remove", "os.rename", "shutil.rmtree"}
data = load_data("synthetic:60x40x900")

def child(folder, kill_at=None):
    if (process := os.fork()) > 0:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    seen = 0

    def hook(event, arguments):
        nonlocal seen
        if event in OPERATIONS and str(arguments[0]).startswith(str(folder)):
            if seen == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1

    sys.addaudithook(hook)
    status = 1
    try:
        train(data, backbone="ials", method="uniform", budget="50%", dimensions=4, settings={"alpha": 1.0, "reg": 5.0},
              max_epochs=3, out=folder, resume=True)
        status = 0
    finally:
        os._exit(status)

base, kill_at = Path(sys.argv[1]), 0
assert child(base / "whole") == 0
while child(base / f"killed-{kill_at}", kill_at) == -signal.SIGKILL:
    assert child(base / f"killed-{kill_at}") == 0, kill_at
    kill_at += 1
print(kill_at)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.slow
def test_killed_at_any_write_the_same_call_goes_on(tmp_path: Path) -> None:
    """Also while it writes its first checkpoint, when there is nothing yet to go on from."""
    command = [sys.executable, "-c", KILLED_AT_EVERY_WRITE, str(tmp_path)]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kills = int(done.stdout)
    assert kills > 20
    whole = tmp_path / "whole"
    for number in range(kills):
        killed = tmp_path / f"killed-{number}"
        assert {path.name for path in killed.iterdir()} == {path.name for path in whole.iterdir()}, number
        assert same(Run.load(killed), Run.load(whole)), number


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ["train", "synthetic:300x200x9000", "--backbone", "mf", "--budget", "50%"]
    command += ["--epochs", "100000", "--patience", "100000", "--out", str(out)]
    stopped = interrupted(command, (out / CHECKPOINT).exists)
    assert stopped.returncode == 130
    (told,) = [line for line in stopped.stderr.splitlines() if line]
    assert told.startswith("interrupted; continue with the same command and --resume (")
    assert (out / CHECKPOINT).exists()


def test_nothing_is_overwritten_unasked(interactions: Interactions, tmp_path: Path) -> None:
    wanted = {"method": "dense", "dimensions": 4, **vars(ONE_THREAD)}
    first = train(interactions, out=tmp_path, **wanted)
    with pytest.raises(RunError, match="--overwrite"):
        train(interactions, out=tmp_path, **wanted)
    assert same(first, train(interactions, out=tmp_path, resume=True, **wanted))
    with pytest.raises(RunError, match="another command"):
        train(interactions, out=tmp_path, resume=True, **{**wanted, "dimensions": 5})
    with pytest.raises(RunError, match="on other data"):
        train(synthetic(n_users=40, n_items=30, n=500, seed=9), out=tmp_path, resume=True, **wanted)
    second = train(interactions, out=tmp_path, overwrite=True, **{**wanted, "dimensions": 5})
    assert Run.load(tmp_path).items.d == second.items.d == 5


def test_a_failed_overwrite_leaves_the_run_that_was_there(interactions: Interactions, tmp_path: Path) -> None:
    first = train(interactions, method="dense", dimensions=4, **vars(ONE_THREAD), out=tmp_path)
    with pytest.raises(BudgetError):
        train(interactions, method="uniform", budget="1B", **vars(ONE_THREAD), out=tmp_path, overwrite=True)
    assert same(first, Run.load(tmp_path))
    svd = train(interactions, backbone="svd", method="dense", dimensions=4, out=tmp_path, overwrite=True)
    assert same(svd, Run.load(tmp_path))
    assert not (tmp_path / "users.npz").exists()


def test_a_folder_with_other_things_is_left_alone(interactions: Interactions, tmp_path: Path) -> None:
    (tmp_path / "items.npz").write_bytes(b"mine")
    for overwrite in (False, True):
        with pytest.raises(RunError, match="holds no run"):
            train(interactions, method="dense", out=tmp_path, overwrite=overwrite)
    assert (tmp_path / "items.npz").read_bytes() == b"mine"


def test_a_method_may_fit_more_than_once(interactions: Interactions, tmp_path: Path) -> None:
    """Each fit has a checkpoint of its own, and a resumed one finds the right one."""

    class Twice(Uniform):
        def fit(self, job: Job, config: UniformConfig) -> FitResult:
            job.fit(SizePlan(4))
            return job.fit(SizePlan(8))

    request = replace(TrainRequest.make(method="uniform", budget="50%", **vars(ONE_THREAD)), method=Twice())
    whole = train_request(interactions, request)
    assert whole.items.d == 8
    resumed = train_in_pieces(interactions, request, tmp_path)
    assert same(whole, resumed)


def test_a_checkpoint_belongs_to_its_command(interactions: Interactions, tmp_path: Path) -> None:
    def stop(step: Step) -> None:
        if step.epoch == 2:
            raise KilledError

    wanted = {"method": "dense", "dimensions": 4, **vars(ONE_THREAD), "out": tmp_path}
    with pytest.raises(KilledError):
        train(interactions, progress=stop, **wanted)
    with pytest.raises(RunError, match="unfinished"):
        train(interactions, **wanted)
    with pytest.raises(RunError, match="unfinished"):
        Run.load(tmp_path)
    with pytest.raises(RunError, match="another command"):
        train(interactions, resume=True, **{**wanted, "dimensions": 5})
    (tmp_path / CHECKPOINT).write_bytes(b"PK\x03\x04")
    with pytest.raises(RunError, match="damaged"):
        train(interactions, resume=True, **wanted)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", b"flip"])
def test_damaged_ids_are_named(damage: bytes, interactions: Interactions, tmp_path: Path) -> None:
    train(interactions, method="dense", dimensions=4, **vars(ONE_THREAD), out=tmp_path)
    path = tmp_path / "ids.npz"
    content = bytearray(path.read_bytes())
    content[60:90] = bytes(30)
    path.write_bytes(content if damage == b"flip" else damage)
    with pytest.raises((RunError, TableError), match=r"ids\.npz|damaged"):
        Run.load(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"format": "edgerec.run", "version": 1, "config": []}',
        '{"format": "edgerec.run", "version": 99}',
    ],
)
def test_damaged_runs_are_named(content: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run"):
        Run.load(tmp_path)
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunError, match=r"run\.json"):
        Run.load(tmp_path)


@pytest.mark.parametrize(
    ("backbone", "settings"),
    [
        ("ials", {"reg": -500}),
        ("ials", {"alpha": "abc"}),
        ("ials", {"alpha": -5}),
        ("svd", {"a": "x"}),
        ("mf", {"lr": None}),
        ("mf", {"batch": 1.5}),
        ("mf", {"negatives": 0}),
        ("mf", {"l2": True}),
        ("mf", {"lr": float("nan")}),
    ],
)
def test_settings_of_the_wrong_kind_are_refused(backbone: str, settings: dict[str, object]) -> None:
    with pytest.raises(SettingError, match=next(iter(settings))):
        TrainRequest.make(backbone, settings=settings)


def test_without_a_backbone_the_method_picks_one_that_it_supports() -> None:
    for method in METHODS:
        found = TrainRequest.make(method=method, budget=None if method == "dense" else "50%")
        assert found.backbone.name == ("ials" if "ials" in found.method.backbones else "mf")
    assert TrainRequest.make().backbone.name == "ials"


def test_settings_are_checked(interactions: Interactions) -> None:
    with pytest.raises(SettingError, match="seed"):
        TrainRequest.make(seed=1 << 70)
    with pytest.raises(SettingError, match="widths"):
        TrainRequest.make(method_settings={"widths": 2.5})
    with pytest.raises(UnsupportedError, match=r"no setting speed; it has: .*reg"):
        TrainRequest.make("ials", settings={"speed": 1})
    with pytest.raises(UnsupportedError, match="fp32"):
        TrainRequest.make(precision="fp8")
    with pytest.raises(UnsupportedError, match="dimension"):
        TrainRequest.make(dimensions=0)
