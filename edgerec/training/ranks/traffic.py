"""The bytes that ranks send, as a model: what all of them together put on the network, without headers.

gloo reduces in a ring, in which each of N ranks sends 2 (N - 1) / N of the array, and broadcasts along a tree of N - 1
messages. tests/training/ranks compares the model with the counters of a network of the ranks alone.
"""

from __future__ import annotations

from edgerec.models.low_rank import OVERSAMPLE, passes

FLOAT = 4
_COUNT = 8


def sum_bytes(n: int, count: int) -> int:
    """Return the bytes of the sum of arrays of `n` bytes over `count` ranks."""
    return 2 * (count - 1) * n


def gather_bytes(n: int, count: int) -> int:
    """Return the bytes of giving every rank the rows of all, `n` bytes together, and their numbers."""
    return (count - 1) * n + sum_bytes(_COUNT * count, count)


def svd_bytes(n_items: int, d: int, count: int, *, from_start: bool = False) -> int:
    """Return the bytes of one decomposition: each pass over the users sums (n_items, d + 16) float32.

    After the last but one, the (d + 16) x (d + 16) factors of the ranks' users are gathered; rank 0 sends its results
    to the others, so that all have the same signs and rotations, whatever their processors. Fewer columns are used if
    there are fewer users or items than d + 16.
    """
    k = d + OVERSAMPLE
    each = sum_bytes(FLOAT * n_items * k, count)
    factors = gather_bytes(_COUNT * count, count) + gather_bytes(FLOAT * count * k * k, count)
    factors += (count - 1) * FLOAT * count * k * k
    result = (count - 1) * FLOAT * (k * k + k + k * n_items)
    return passes(from_start) * each + factors + result + sum_bytes(_COUNT, count)


def ials_bytes(n_users: int, n_items: int, d: int, count: int) -> int:
    """Return the bytes of one epoch: two d x d Gram matrices are summed, and both tables are gathered."""
    grams = 2 * sum_bytes(FLOAT * d * d, count)
    tables = gather_bytes(FLOAT * n_users * d, count) + gather_bytes(FLOAT * n_items * d, count)
    return grams + tables + 3 * sum_bytes(_COUNT, count)
