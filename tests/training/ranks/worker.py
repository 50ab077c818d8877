"""One of several ranks of a test: trains backbones, and counts what the ranks send in a network of their own.

usage, inside a network namespace whose one device is lo: torchrun ... -m tests.training.ranks.worker OUT.npz FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from edgerec.data import Interactions, Split, split, synthetic
from edgerec.data.ranked import parts_of_rank
from edgerec.models import SizePlan, Trainer, Vectors, backbone
from edgerec.ranks import ALONE, Ranks
from edgerec.training import Checkpoint, FitOptions, Snapshot, validate
from edgerec.training.ranks.gloo import joined

D, EPOCHS = 16, 2
FORMS: dict[str, dict[str, Any]] = {
    "svd": {},
    "ials": {},
    "ials from noise": {"start": "normal"},
    "lae": {"bits": 32, "users": 512},
    "lae in codes": {"bits": 4, "users": 1024},
    "lae solved": {"encoder": "least_squares", "bits": 4, "item_exponent": 0.5, "user_exponent": 0.5},
    "lightgcn": {"l2": 0.01},
    "lightgcn by bpr": {"l2": 0.01, "loss": "bpr", "mask_at": "ego", "start": "normal"},
    "mf": {},
}
"""Settings of what is trained; the first word is the backbone."""
SIZED = ("lae in codes", "lae solved", "lightgcn by bpr")
"""Those with rows of several sizes."""
RESUMED = ("lae in codes", "lae solved", "lightgcn by bpr", "mf")


def data() -> Split:
    return split(synthetic(n_users=4000, n_items=2000, n=40_000, seed=3), "random:80/20")


def trained(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """The vectors, the validation metrics and the bytes sent in an epoch of each form.

    Checkpoints are left in the folder, and several ranks continue from those of one process.
    """
    whole, found = data(), dict[str, Any]()
    parts = whole if ranks is ALONE else parts_of_rank(whole, ranks)
    for name, settings in FORMS.items():
        model = backbone(name.split()[0])
        config, trainer = model.closed(model.config(**settings)), started(name, parts.train)
        if name != "svd":
            trainer.epoch()
        moved = _moved(trainer)
        found[f"{name} bytes"] = _sent_in_epoch(trainer, ranks)
        found[f"{name} moved"] = ranks.total(_moved(trainer) - moved)
        for _ in range(EPOCHS - 2 if name != "svd" else 0):
            trainer.epoch()
        vectors = trainer.vectors()
        metrics = validate(parts, vectors, FitOptions(sample_users=300))
        found |= {f"{name} {metric}": value for metric, value in metrics.items()}
        encoded = model.encode(vectors, parts.train, config, threads=1)
        assert encoded is not None
        found |= {f"{name} users": ranks.collect(vectors.users), f"{name} items": vectors.items}
        found[f"{name} encoded"] = ranks.collect(encoded.users)
        if name in RESUMED:
            checkpoint(folder, name, ranks.count, ranks).save(Snapshot({}, trainer.state()))
            resumed = later(started(name, parts.train), folder, name, 1)
            found |= {f"{name} later users": ranks.collect(resumed.users), f"{name} later items": resumed.items}
    return found


def started(name: str, train: Interactions) -> Trainer:
    """A trainer of a form."""
    model = backbone(name.split()[0])
    config = model.closed(model.config(**FORMS[name]))
    return model.trainer(train, _sizes(name, train), config, seed=0, threads=1)


def checkpoint(folder: Path, name: str, count: int, ranks: Ranks = ALONE) -> Checkpoint:
    """The checkpoint that `count` ranks write."""
    place = folder / f"{name}-{count}"
    place.mkdir(exist_ok=True)
    return Checkpoint(place, {}, ranks=ranks)


def later(trainer: Trainer, folder: Path, name: str, count: int) -> Vectors:
    """The vectors an epoch after the checkpoint of `count` ranks."""
    snapshot = checkpoint(folder, name, count).load()
    assert snapshot is not None
    trainer.restore(snapshot.trainer)
    trainer.epoch()
    return trainer.vectors()


def _sizes(name: str, train: Interactions) -> SizePlan:
    """Rows of 1 to D values, by their number; of users as well if they have a table."""
    if name not in SIZED:
        return SizePlan(D)
    users = np.arange(train.all_users)[train.own_users] % D + 1
    return SizePlan(D, users if backbone(name.split()[0]).user_table else None, np.arange(train.n_items) % D + 1)


def _moved(trainer: Trainer) -> int:
    """The rows of items that the rank has moved so far, in trainers that fetch single ones."""
    return int(getattr(getattr(trainer, "_shared", None), "moved", 0))


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
        result = trained(ranks, Path(sys.argv[2]))
        if ranks.rank == 0:
            np.savez(sys.argv[1], **result)
