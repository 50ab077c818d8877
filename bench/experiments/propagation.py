"""Time of a LightGCN training step compared with the usual implementation: torch's sparse product under autograd.

usage: python -m bench.experiments.propagation [--data gowalla] [--rounds 20] [--out result.json]

Both are interleaved, train on the same BPR batches of 2,048 from the same initial values, and must reach the same
losses. Larger steps of edgerec are timed too: the cost of a step is that of its products, almost whatever it ranks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import cycle
from statistics import median
from typing import Any

import click
import numpy as np

from bench.experiments.harness import Figures, experiment
from edgerec.console import print_table
from edgerec.data import Interactions, load_data
from edgerec.errors import BenchError
from edgerec.extras import require
from edgerec.models import SizePlan, torch_threads
from edgerec.models.graph_trainer import GraphTrainer
from edgerec.models.lightgcn import LightGCNConfig, LightGCNTrainer
from edgerec.models.losses import Batch, by_interaction
from edgerec.models.propagation import normalised_adjacency

DIMENSIONS, BATCH = 64, 2048
PAPER = LightGCNConfig(loss="bpr", start="normal", lr=1e-3, l2=1e-4, batch=BATCH)
TOLERANCE = 1e-3
"""Largest relative difference of two losses of the same model."""
REFERENCE, OURS = "torch sparse COO, autograd", "edgerec, the same step"


class Reference:
    """A LightGCN step as in the authors' PyTorch code; in a `Batch` the numbers of items follow those of users."""

    def __init__(self, train: Interactions, start: Any, config: LightGCNConfig) -> None:
        """Start from the (n_users + n_items, d) ego rows `start`."""
        self._torch = require("torch", "train")
        graph = normalised_adjacency(train).tocoo()
        places = self._torch.from_numpy(np.stack(graph.coords).astype(np.int64))
        self._graph = self._torch.sparse_coo_tensor(places, self._torch.from_numpy(graph.data), graph.shape).coalesce()
        self._ego = self._torch.from_numpy(start.copy()).requires_grad_()
        self._optimizer = self._torch.optim.Adam([self._ego], lr=config.lr)
        self._config = config

    def step(self, batch: Batch) -> float:
        """Make one step of Adam; return the ranking loss before it."""
        layers = [self._ego]
        for _ in range(self._config.layers):
            layers.append(self._torch.sparse.mm(self._graph, layers[-1]))
        output = self._torch.stack(layers, dim=1).mean(dim=1)
        p, q, r = output[batch.users], output[batch.items], output[batch.negatives]
        ranking = self._torch.nn.functional.softplus((p * r).sum(1) - (p * q).sum(1)).mean()
        active = (self._ego[rows] for rows in (batch.users, batch.items, batch.negatives))
        decay = sum(rows.norm(2).pow(2) for rows in active) / len(batch.users)
        self._optimizer.zero_grad()
        (ranking + self._config.decay * decay).backward()
        self._optimizer.step()
        return float(ranking.detach())


def measure(train: Interactions, rounds: int, threads: int) -> list[dict[str, Any]]:
    """Return a row for each contender: name, median and least milliseconds of a step, and its interactions.

    Raises BenchError if the losses of the two implementations differ.
    """
    ours = _trainer(train, PAPER, threads)
    reference = Reference(train, ours.state()["ego"], PAPER)
    large = _trainer(train, LightGCNConfig(loss="bpr"), threads)
    soft = _trainer(train, LightGCNConfig(), threads)
    shared = list(
        _first(by_interaction(train, BATCH, require("torch", "train").Generator().manual_seed(0)), rounds + 1)
    )
    contenders: list[tuple[str, Callable[[Batch], Any], Iterator[Batch]]] = [
        (REFERENCE, reference.step, iter(shared)),
        (OURS, ours.step, iter(shared)),
        ("edgerec, BPR with 65,536", large.step, cycle(large.batches())),
        ("edgerec, softmax", soft.step, cycle(soft.batches())),
    ]
    with torch_threads(threads):
        taken = [[_timed(step, next(batches)) for _, step, batches in contenders] for _ in range(rounds + 1)]
    rows = [
        _row(name, list(steps)) for (name, _, _), steps in zip(contenders, zip(*taken[1:], strict=True), strict=True)
    ]
    theirs, mine = (np.array([timed[column]["loss"] for timed in taken]) for column in (0, 1))
    if (np.abs(theirs - mine) > TOLERANCE * theirs).any():
        raise BenchError(f"the two losses differ: {theirs.tolist()} and {mine.tolist()}; the times mean nothing")
    return rows


def _trainer(train: Interactions, config: LightGCNConfig, threads: int) -> GraphTrainer:
    return LightGCNTrainer(train, SizePlan(DIMENSIONS), config, 0, threads)


def _first(batches: Iterator[Batch], n: int) -> Iterator[Batch]:
    return (batch for _, batch in zip(range(n), batches, strict=False))


def _timed(step: Callable[[Batch], Any], batch: Batch) -> dict[str, float]:
    started = time.perf_counter()
    loss = float(step(batch))
    return {"ms": 1e3 * (time.perf_counter() - started), "interactions": len(batch.users), "loss": loss}


def _row(name: str, steps: list[dict[str, float]]) -> dict[str, Any]:
    times = [step["ms"] for step in steps]
    size = round(median(step["interactions"] for step in steps))
    return {"name": name, "median_ms": median(times), "least_ms": min(times), "interactions": size, "all_ms": times}


@experiment("propagation")
@click.option("--data", default="gowalla", show_default=True, help="Data set.")
@click.option("--rounds", default=20, show_default=True, help="Timed steps of each contender.")
@click.option("--threads", default=2, show_default=True, help="Threads of training.")
def main(data: str, rounds: int, threads: int) -> Figures:
    """Time training steps of edgerec and of the usual implementation, interleaved."""
    train = load_data(data)
    rows = measure(train, rounds, threads)
    pairs = zip(rows[0]["all_ms"], rows[1]["all_ms"], strict=True)
    speedup = median(theirs / mine for theirs, mine in pairs)
    shown = ("name", "interactions", "median_ms", "least_ms")
    print_table(f"{data}, a training step", shown, [[row[s] for s in shown] for row in rows])
    click.echo(f"{OURS}: {speedup:.2f} times as fast, the median of {rounds} rounds")
    return {
        "data_fingerprint": train.fingerprint(),
        "graph": {"nodes": train.n_users + train.n_items, "non_zeros": 2 * len(train), "dimensions": DIMENSIONS},
        "torch": require("torch", "train").__version__,
        "scipy": require("scipy", "train").__version__,
        "speedup": speedup,
        "rows": rows,
    }


if __name__ == "__main__":
    main()
