"""A fixed piece of work, timed in every process: it tells a slower machine from a slower bundle."""

from __future__ import annotations

from statistics import median

import numpy as np

from edgerec_bench.agent.clock import timed

VALUES = 2**18
CALLS = 100


def yardstick_ms() -> float:
    """Milliseconds, the median of 100 passes over 1 MiB of float32 in numpy, which uses one thread for it."""
    values = np.linspace(0, 1, VALUES, dtype=np.float32)
    room = np.empty_like(values)

    def work() -> float:
        np.multiply(values, values, out=room)
        return float(room.sum())

    return median(timed(work)[1] for _ in range(CALLS))
