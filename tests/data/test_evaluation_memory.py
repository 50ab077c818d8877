"""Full ranking in the size of Yelp2018 takes a fraction of the memory that a matrix of all scores would."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgerec.data import Interactions, evaluate_vectors

N_USERS, N_ITEMS, D = 31_668, 38_048, 64
N_TRAIN, N_TEST = 1_240_000, 320_000
BOUND = 1 << 30
"""Bytes; a matrix of all scores takes 4.5 times as many."""


@pytest.mark.slow
def test_full_ranking_stays_under_a_gibibyte() -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("peak memory is read from /proc")
    command = [sys.executable, "-m", __name__]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["shape"] == [N_USERS, N_ITEMS]
    assert told["ranked"] > 0.99 * N_USERS
    assert told["peak"] < BOUND
    # Random vectors find nothing: 20 of 38,048 items are a recall of 0.0005.
    assert 0 < told["recall@20"] < 0.002


def main() -> None:
    """Measure random vectors on random interactions in a fresh process, and say what it took at its peak, bytes."""
    rng = np.random.default_rng(0)
    train, test = _interactions(rng)
    users, items = (rng.standard_normal((n, D), dtype=np.float32) for n in (N_USERS, N_ITEMS))
    measured = evaluate_vectors(users, items, train, test, threads=2)
    status = Path("/proc/self/status").read_text()
    peak = 1024 * int(status.partition("VmHWM:")[2].split()[0])
    ranked = int(np.count_nonzero(test.user_counts()))
    told = {"shape": train.shape, "ranked": ranked, "peak": peak, "recall@20": measured["recall@20"]}
    sys.stdout.write(json.dumps(told))


def _interactions(rng: np.random.Generator) -> tuple[Interactions, Interactions]:
    """Random pairs, parted into train and test at random."""
    pairs = rng.choice(N_USERS * N_ITEMS, N_TRAIN + N_TEST, replace=False)
    whole = Interactions.from_pairs(*np.divmod(pairs, N_ITEMS))
    tested = rng.permutation(len(whole)) < N_TEST
    return whole.select(~tested), whole.select(tested)


if __name__ == "__main__":
    main()
