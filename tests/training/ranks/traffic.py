"""The bytes that ranks send, as a model: what all of them together put on the network, without headers.

gloo reduces in a ring, in which each of N ranks sends 2 (N - 1) / N of the array, and broadcasts along a tree of N - 1
messages. test_ranks.py compares the model with the counters of a network of the ranks alone.
"""

from __future__ import annotations

from edgerec.models.low_rank import lanczos_blocks

FLOAT = 4
_DOUBLE = 8
_COUNT = 8
_INDEX = 4


def sum_bytes(n: int, count: int) -> int:
    """Return the bytes of the sum of arrays of `n` bytes over `count` ranks."""
    return 2 * (count - 1) * n


def gather_bytes(n: int, count: int) -> int:
    """Return the bytes of giving every rank the rows of all, `n` bytes together, and their numbers."""
    return (count - 1) * n + sum_bytes(_COUNT * count, count)


def svd_bytes(n_items: int, d: int, count: int) -> int:
    """Return the bytes of one decomposition: each pass over the users sums a block of columns in float32.

    Then rank 0 sends its basis to the others, so that all have the same signs and rotations, whatever their processors.
    There are fewer passes if there are few items.
    """
    columns, passes = lanczos_blocks(d, n_items)
    k = passes * columns
    result = (count - 1) * (FLOAT * n_items * k + _DOUBLE * k * k)
    return passes * sum_bytes(FLOAT * n_items * columns, count) + result + sum_bytes(_COUNT, count)


def ials_bytes(n_users: int, n_items: int, d: int, count: int, *, weighted: bool = False) -> int:
    """Return the bytes of one epoch: two d x d Gram matrices are summed, and both tables are gathered.

    With a user_exponent the users' weights are gathered, too. It is that of lae's least_squares as well, which sums one
    more matrix for error feedback.
    """
    grams = 2 * sum_bytes(FLOAT * d * d, count)
    tables = gather_bytes(FLOAT * n_users * d, count) + gather_bytes(FLOAT * n_items * d, count)
    weights = gather_bytes(FLOAT * n_users, count) if weighted else 0
    return grams + tables + weights + 3 * sum_bytes(_COUNT, count)


def lae_bytes(moved: int, steps: int, d: int, count: int, *, coded: bool = False) -> int:
    """Return the bytes of an epoch of lae's sums, in which ranks move rows of items to and from their owners.

    A step sums the loss, and the gradients of d + 4 numbers that all ranks have; with codes, ranks have one unit of
    scales.

    Args:
        moved: rows that steps fetch and sum of all ranks, `SharedRows.moved`. In a step a rank fetches the items of its
            users' histories and those drawn, and sums those of the histories and of the hardest drawn.
    """
    unit = gather_bytes(FLOAT * count, count) if coded else 0
    return _moved_bytes(moved, steps, d, count) + steps * (sum_bytes(FLOAT * (d + 5), count) + unit)


def mf_bytes(moved: int, steps: int, d: int, count: int) -> int:
    """Return the bytes of an epoch of mf, in which rows of items are moved as in lae: those drawn and observed."""
    return _moved_bytes(moved, steps, d, count) + sum_bytes(_COUNT, count)


def lightgcn_bytes(
    n_users: int, n_items: int, d: int, layers: int, steps: int, count: int, *, measured: bool = False
) -> int:
    """Return the bytes of an epoch: a step sums (n_items, d) float32 for each layer, forwards and backwards.

    Before that the item rows are gathered; at its end their owners sum their gradients.

    Args:
        measured: add what the figures of masks on ego rows take after the epoch.
    """
    table = FLOAT * n_items * d
    forwards = gather_bytes(table, count) + layers * sum_bytes(table, count)
    backwards = layers * sum_bytes(table, count) + (count - 1) * table
    counts = gather_bytes(_COUNT * n_users, count) + sum_bytes(_COUNT, count)
    return steps * (forwards + backwards) + counts + (forwards if measured else 0)


def _moved_bytes(moved: int, steps: int, d: int, count: int) -> int:
    """Return the bytes of rows that steps request by their numbers, fetch, and sum."""
    return moved * (_INDEX + FLOAT * d) + 2 * steps * sum_bytes(_COUNT * count * count, count)
