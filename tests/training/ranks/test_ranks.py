"""Several real processes train together, and their run is that of one process."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from edgerec.api import train
from edgerec.data import load_data, split, synthetic
from edgerec.data.ranked import parts_of_rank
from edgerec.errors import DataError, UnsupportedError
from edgerec.measure import evaluate
from edgerec.ranks import ALONE, Ranks, balanced
from edgerec.request import TrainRequest, check_ranks
from edgerec.runtime import Recommender
from edgerec.training import FitOptions, Run
from edgerec_export import export, from_run
from tests.training.ranks import worker
from tests.training.ranks.traffic import ials_bytes, lae_bytes, lightgcn_bytes, mf_bytes, svd_bytes

ROOT = Path(__file__).parents[3]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
MOST_SECONDS = 400
PACKET = 1.04
"""Headers and acknowledgements of lo, whose packets have up to 64 KiB; waiting costs some for each rank, too."""
MESSAGE = 500
"""Headers of a message, which gloo announces, and acknowledgements: they count in steps that send little."""
TWO_NETWORKS = """
set -e
ip link set lo up
unshare --net sh -c '
    until ip link set veth-b up 2> /dev/null; do sleep 0.05; done
    ip link set lo up; ip addr add 10.9.0.2/24 dev veth-b
    GLOO_SOCKET_IFNAME=veth-b exec "$@" --node-rank 1 {arguments}' sh {torchrun} &
trap 'kill $! 2> /dev/null || :' EXIT
until [ "$(readlink /proc/$!/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done
ip link add veth-a type veth peer name veth-b netns $!
ip addr add 10.9.0.1/24 dev veth-a
ip link set veth-a up
GLOO_SOCKET_IFNAME=veth-a {torchrun} --node-rank 0 {arguments}
wait $!
"""


@pytest.fixture
def own_network() -> list[str]:
    """The command that runs another one in a network of its own."""
    allowed = shutil.which("unshare") and shutil.which("ip")
    if not (allowed and subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode == 0):
        message = "needs root and: apt install util-linux iproute2, for networks of the ranks alone"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(message)
    return ["unshare", "--net", "sh", "-c"]


def ranks_of(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    variables = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=MOST_SECONDS, cwd=ROOT)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(scope="module")
def one(checkpoints: Path) -> dict[str, Any]:
    """The result of one process."""
    return worker.trained(ALONE, checkpoints)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_ranks_train_what_one_process_trains_and_send_what_the_model_says(
    count: int, own_network: list[str], one: dict[str, Any], checkpoints: Path, tmp_path: Path
) -> None:
    launch = f"exec {' '.join(TORCHRUN)} --standalone --nproc-per-node {count} -m tests.training.ranks.worker"
    done = ranks_of(
        [*own_network, f"ip link set lo up; {launch} {tmp_path}/out.npz {checkpoints}"], GLOO_SOCKET_IFNAME="lo"
    )
    assert done.returncode == 0, done.stderr
    several = dict(np.load(tmp_path / "out.npz"))
    for name, (model, steps) in _sent(count, several).items():
        most = _most(name)
        found = [(result[f"{name} encoded"], result[f"{name} items"]) for result in (one, several)]
        assert _largest(*found) <= most, name
        found = [(result[f"{name} users"], result[f"{name} items"]) for result in (one, several)]
        assert _largest(*found) <= most, name
        headers = 50_000 * count + MESSAGE * 15 * steps * count * (count - 1)  # a sum takes 2 N (N - 1) messages
        assert model <= several[f"{name} bytes"] <= PACKET * model + headers, (name, model)
        for metric in ("ndcg@20", "ndcg@20_margin", "recall@5", "coverage@20", "popularity@10"):
            assert several[f"{name} {metric}"] == pytest.approx(one[f"{name} {metric}"], rel=5e-3), metric
    for name in worker.RESUMED:
        again = worker.later(worker.started(name, worker.data().train), checkpoints, name, count)
        undisturbed = one[f"{name} later users"], one[f"{name} later items"]
        for users, items in (
            (again.users, again.items),
            (several[f"{name} later users"], several[f"{name} later items"]),
        ):
            assert _largest(undisturbed, (users, items)) <= _most(name), name


def _most(name: str) -> float:
    """The largest difference of a score from that of one process, relative to the largest score."""
    if name in ("lae in codes", "lae solved"):
        return 5e-2  # a value in the middle of two codes is rounded up or down
    if name == "lae":
        return 1e-2  # of two drawn items that are nearly alike, another may be the hardest
    return 1e-4 if name.startswith(("svd", "ials")) else 5e-4  # steps of Adam enlarge the rounding of sums


def _sent(count: int, found: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """The bytes of an epoch by the model, and its steps if they send little each."""
    (n_users, n_items), n, d = (train := worker.data().train).shape, len(train), worker.D
    moved = {name: int(found[f"{name} moved"]) for name in worker.FORMS}
    steps = -(-n // (n // 64))
    graph = n_users, n_items, d, 3, 8, count
    return {
        "svd": (svd_bytes(n_items, d, count), 0),
        "ials": (ials_bytes(n_users, n_items, d, count), 0),
        "ials from noise": (ials_bytes(n_users, n_items, d, count), 0),
        "lae": (lae_bytes(moved["lae"], 8, d, count), 8),
        "lae in codes": (lae_bytes(moved["lae in codes"], 4, d, count, coded=True), 4),
        "lae solved": (ials_bytes(n_users, n_items, d, count, weighted=True), 0),
        "lightgcn": (lightgcn_bytes(*graph), 0),
        "lightgcn by bpr": (lightgcn_bytes(*graph, measured=True), 0),
        "mf": (mf_bytes(moved["mf"], steps, d, count), steps),
    }


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["svd", "ials", "lae"])
def test_ranks_of_two_networks_write_an_ordinary_run(backbone: str, own_network: list[str], tmp_path: Path) -> None:
    source = _csv(tmp_path, n_users=300, n_items=200, n=6000)
    settings = {"svd": {"c": 0.0}, "ials": {"alpha": 3.0, "reg": 20.0}, "lae": {"b": 0.2, "spectrum": 0.0}}[backbone]
    wanted = ["--backbone", backbone, "--dimensions", "8", "--budget", "40%", "--epochs", "3"]
    wanted += [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    arguments = ["--master-addr", "10.9.0.1", "--master-port", "29511", "-m", "edgerec", "train", str(source)]
    arguments += ["--out", str(tmp_path / "two"), *wanted]
    torchrun = [*TORCHRUN, "--nnodes", "2", "--nproc-per-node", "1"]
    script = TWO_NETWORKS.format(torchrun=" ".join(torchrun), arguments=" ".join(arguments))
    done = ranks_of([*own_network, script])
    assert done.returncode == 0, done.stderr
    data = load_data(source)
    how: dict[str, Any] = {"backbone": backbone, "settings": settings, "max_epochs": 3}
    one, two = train(data, dimensions=8, budget="40%", **how), Run.load(tmp_path / "two")
    assert two.config == {**one.config, "data": two.config["data"]}
    assert _difference(one, two) <= 1e-4
    assert evaluate(two, data) == pytest.approx(two.metrics["test"], rel=1e-6)
    export(from_run(two), tmp_path / "bundle")
    assert Recommender.load(tmp_path / "bundle").n_items == data.n_items


@pytest.mark.slow
def test_a_killed_rank_ends_the_others_and_any_number_resumes(tmp_path: Path) -> None:
    source, out = _csv(tmp_path, n_users=800, n_items=400, n=16_000), tmp_path / "run"
    command = [sys.executable, "-m", "edgerec", "train", str(source), "--out", str(out), "--split", "random:50/25/25"]
    command += ["--epochs", "12", "--patience", "12", "--set", "alpha=3", "--set", "reg=20", "--dimensions", "48"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    with subprocess.Popen([*command, "--processes", "2"], stderr=subprocess.PIPE, text=True, env=environment) as job:
        while not (out / "checkpoint.npz").exists():
            assert job.poll() is None
            time.sleep(0.02)
        (rank,) = [one for one in psutil.Process(job.pid).children() if one.environ().get("RANK") == "1"]
        rank.send_signal(signal.SIGKILL)
        _, errors = job.communicate(timeout=MOST_SECONDS)
    assert (job.returncode, errors.count("\n")) == (2, 1), errors
    assert errors.startswith("Error: rank 1 of 2 was killed by SIGKILL")
    refused = ranks_of([*command, "--processes", "2"])
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr
    assert "holds an unfinished run" in refused.stderr
    assert list(out.glob("checkpoint.*.1-of-2.npz"))
    done = ranks_of([*command, "--processes", "3", "--resume"])
    assert done.returncode == 0, done.stderr
    several = Run.load(out)
    assert not list(out.glob("checkpoint*"))
    assert ranks_of([*command, "--overwrite"]).returncode == 0
    assert [entry["epoch"] for entry in several.history] == list(range(1, 13))
    assert _difference(Run.load(out), several) <= 1e-4


def test_ranges_of_rows_cost_alike() -> None:
    costs = np.array([5, 1, 1, 1, 1, 1, 5, 5])
    ranges = balanced(costs, 4)
    assert [int(costs[one].sum()) for one in ranges] == [5, 5, 5, 5]
    assert ranges[-1].stop == len(costs)


def test_too_many_processes_and_what_trains_in_one_are_refused() -> None:
    class Three(Ranks):
        count = 3

    with pytest.raises(DataError, match="3 processes are too many for 2 users"):
        parts_of_rank(split(synthetic(n_users=2, n_items=100, n=60, seed=0), "random:50/25/25"), Three())
    with pytest.raises(UnsupportedError, match="several train: svd, ials, lae, lightgcn, mf"):
        check_ranks(TrainRequest.make("ngcf"), Three())
    with pytest.raises(UnsupportedError, match="leave --device out"):
        check_ranks(replace(TrainRequest.make("mf"), options=FitOptions(device="cuda")), Three())
    with pytest.raises(UnsupportedError, match="several train: dense, uniform"):
        check_ranks(TrainRequest.make("ials", "magnitude", budget="10%"), Three())


def _csv(folder: Path, **how: int) -> Path:
    data = synthetic(**how, seed=1)
    lines = [f"{user},{item}" for user, item in zip(data.user_rows().tolist(), data.indices.tolist(), strict=True)]
    path = folder / "data.csv"
    path.write_text("\n".join(["user_id,item_id", *lines]))
    return path


def _difference(one: Run, other: Run) -> float:
    """The largest difference of scores, of pairs of items if there are no users, relative to the largest score."""
    return _largest(*(((run.users or run.items).dense(), run.items.dense()) for run in (one, other)))


def _largest(*tables: tuple[NDArray[Any], NDArray[Any]]) -> float:
    """The largest difference of the scores of two pairs of users and items, relative to the largest score."""
    one, other = (users @ items.T for users, items in tables)
    return float(np.abs(one - other).max() / np.abs(one).max())
