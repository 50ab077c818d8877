"""A search on a Ray cluster of two nodes on this machine, as many nodes elsewhere would be."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgerec.api import train
from edgerec.data import synthetic
from edgerec.errors import BenchError, DataError, WorkerError
from edgerec.fitting import fit
from edgerec.methods.search.workers import pool
from edgerec_bench.grid import GridPlan, run_grid
from tests.methods.search.tasks import met, product, refuse, stumble

if os.environ.get("CI") != "true":
    pytest.importorskip("ray", reason="needs the extra ray")
# Ray's own code warns of what it does itself; a cluster takes seconds to start.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster with two nodes of one processor each."""
    from ray.cluster_utils import Cluster

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    small: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 << 20}
    environment = pytest.MonkeyPatch()
    # Where the nodes find these tests' functions.
    environment.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    # The head forks a server for each client, and gRPC's handlers of forks race there: ray-project/ray#63202.
    environment.setenv("GRPC_ENABLE_FORK_SUPPORT", "0")
    made = Cluster(initialize_head=True, head_node_args={**small, "ray_client_server_port": port})
    try:
        made.add_node(**small)
        made.wait_for_nodes(timeout=60)
        address = f"ray://127.0.0.1:{port}"
        with pool(address, product, 1):  # the pools of the tests share its connection, and the cluster's processes
            yield address
    finally:
        made.shutdown()
        environment.undo()


def test_a_cluster_that_is_not_there_is_named() -> None:
    """Before the connection that the others share."""
    with pytest.raises(WorkerError, match="ray start --head"):
        pool("ray://127.0.0.1:1", product, 1)


def test_both_nodes_work_at_once(cluster: str, tmp_path: Path) -> None:
    with pool(cluster, met, tmp_path) as workers:
        assert len({answer for _, answer in workers.answers(range(2))}) == 2


def test_each_answer_has_its_tasks_number(cluster: str) -> None:
    with pool(cluster, product, 3) as workers:
        answers = {number: value for number, (value, _) in workers.answers([10, 20, 30, 40, 50])}
    assert answers == {number: 30 * (number + 1) for number in range(5)}


def test_errors_come_back(cluster: str) -> None:
    with pool(cluster, refuse, None) as workers, pytest.raises(DataError, match="third"):
        list(workers.answers([0, 1, 2]))
    with pool(cluster, stumble, None) as workers, pytest.raises(WorkerError, match="nothing to divide by"):
        list(workers.answers([0]))


def test_a_search_on_a_cluster_is_the_search_without(cluster: str) -> None:
    """To the bit: what trains there is one thread on the same machine."""
    wanted: dict[str, Any] = {
        "backbone": "mf",
        "method": "bet",
        "budget": "25%",
        "dimensions": 8,
        "method_settings": {"iterations": 2, "candidates": 2, "epochs": 1, "retrain": 1},
        "threads": 1,
        "max_epochs": 2,
    }
    data = synthetic(n_users=60, n_items=40, n=1200, seed=1)
    there, here = train(data, workers=cluster, **wanted), train(data, **wanted)
    assert there.history == here.history
    assert np.array_equal(there.items.dense(), here.items.dense())


def test_a_grid_on_a_cluster_has_the_rows_of_one_without(cluster: str, tmp_path: Path) -> None:
    """To the bit, as rows hold nothing that varies between calls."""
    data = synthetic(n_users=40, n_items=30, n=500, seed=1)
    pairs = zip(data.user_rows().tolist(), data.indices.tolist(), strict=True)
    source = tmp_path / "data.csv"
    source.write_text("\n".join(["user_id,item_id", *(f"{user},{item}" for user, item in pairs)]))
    plan = GridPlan.parse(
        {"data": str(source), "backbone": "svd", "method": ["dense", "uniform"], "budget": "50%", "dimensions": 4}
    )
    there = run_grid(plan, tmp_path / "there.jsonl", workers=cluster, verify=False)
    here = run_grid(plan, tmp_path / "here.jsonl", verify=False)
    assert not there.failures
    assert there.rows == here.rows
    assert len(there.rows) == 2
    with pytest.raises(BenchError, match="leave --bundles out"):
        run_grid(plan, tmp_path / "there.jsonl", workers=cluster, bundles=tmp_path)


def test_a_fit_on_a_cluster_is_that_of_as_many_processes(cluster: str, tmp_path: Path) -> None:
    """Two processors try two recipes at a time, as two workers here do; the bundles are equal to the byte."""
    data = synthetic(n_users=40, n_items=30, n=600, seed=1)
    bundles = {}
    for name, workers in (("there", cluster), ("here", 2)):
        fitted = fit(data, tmp_path / f"{name}.edgerec", max_bytes=8000, trials=2, workers=workers, split="time:80/20")
        bundles[name] = (fitted.out.read_bytes(), {trial.recipe for trial in fitted.study.trials}, fitted.validation)
    assert bundles["there"] == bundles["here"]
