"""One of several ranks of a test: trains svd and ials, and counts what the ranks send in a network of their own.

usage, inside a network namespace whose one device is lo: torchrun ... -m tests.training.ranks.worker OUT.npz
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from edgerec.data import Split, split, synthetic
from edgerec.data.ranked import parts_of_rank
from edgerec.models import SizePlan, Trainer, backbone
from edgerec.ranks import ALONE, Ranks
from edgerec.training import FitOptions, validate
from edgerec.training.ranks.gloo import joined

D, EPOCHS = 16, 3
STARTS: dict[str, Any] = {"svd": "svd", "ials": "svd", "ials from noise": "normal"}


def data() -> Split:
    return split(synthetic(n_users=6000, n_items=3000, n=60_000, seed=3), "random:80/20")


def trained(ranks: Ranks) -> dict[str, Any]:
    """The vectors, the validation metrics and the bytes sent in the last epoch of each backbone."""
    whole, found = data(), dict[str, Any]()
    parts = whole if ranks is ALONE else parts_of_rank(whole, ranks)
    for name, start in STARTS.items():
        model = backbone(name.split()[0])
        config = model.config(**({} if name == "svd" else {"start": start}))
        trainer = model.trainer(parts.train, SizePlan(D), config, seed=0, threads=1)
        if name != "svd":
            trainer.epoch()
        found[f"{name} bytes"] = _sent_in_epoch(trainer, ranks)
        for _ in range(EPOCHS - 2 if name != "svd" else 0):
            trainer.epoch()
        vectors = trainer.vectors()
        metrics = validate(parts, vectors, FitOptions(sample_users=300))
        found |= {f"{name} {metric}": value for metric, value in metrics.items()}
        found |= {f"{name} users": ranks.collect(vectors.users), f"{name} items": vectors.items}
    return found


def _sent_in_epoch(trainer: Trainer, ranks: Ranks) -> int:
    ranks.wait()
    before = _sent()
    ranks.wait()  # rank 0 has read the counter
    trainer.epoch()
    ranks.wait()
    after = _sent()
    ranks.wait()
    return after - before


def _sent() -> int:
    """The bytes that lo has sent: /sys may still show the network of the machine, /proc/self shows this one's."""
    (line,) = [line for line in Path("/proc/self/net/dev").read_text().splitlines() if line.strip().startswith("lo:")]
    return int(line.partition(":")[2].split()[8])


if __name__ == "__main__":
    with joined() as ranks:
        result = trained(ranks)
        if ranks.rank == 0:
            np.savez(sys.argv[1], **result)
