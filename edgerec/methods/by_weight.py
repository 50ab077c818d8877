"""Prefix sizes that follow weights: what methods with a fixed rule of sizes share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgerec.budget import snap_sizes
from edgerec.methods.base import Job
from edgerec.models import SizePlan


def plan_by_weight(
    job: Job,
    item_weights: NDArray[np.float64],
    user_weights: NDArray[np.float64],
    *,
    user_share: float | None = None,
    widths: int | None = None,
) -> SizePlan:
    """Sizes proportional to weights, within the job's budget, of few distinct widths a table.

    Args:
        item_weights: (n_items,) positive.
        user_weights: (n_users,) positive; left alone where users have no table.
        user_share: of the budget that goes to users; None for their share of the rows.
        widths: at most so many distinct sizes a table; None for 4 up to 10,000 rows, 8 up to 100,000 and 16 above.

    Raises BudgetError where the budget leaves less than one value a row.
    """
    item_widths, user_widths = (widths or _default_widths(weights.size) for weights in (item_weights, user_weights))
    total = job.values(blocks=item_widths + (user_widths if job.user_table else 0))
    user_sizes = None
    if job.user_table:
        for_users = _users_part(job, total, user_share)
        user_sizes = snap_sizes(user_weights, for_users, 1, job.d, user_widths)
        total -= for_users
    item_sizes = snap_sizes(item_weights, total, 1, job.d, item_widths)
    return SizePlan(job.d, user_sizes, item_sizes)


def _users_part(job: Job, total: int, share: float | None) -> int:
    users, items = job.train.n_users, job.train.n_items
    wanted = round(total * (users / job.n_rows if share is None else share))
    # What one side cannot hold, or needs at least, is the other's to give.
    return int(np.clip(wanted, max(users, total - items * job.d), min(users * job.d, total - items)))


def _default_widths(n_rows: int) -> int:
    return 4 if n_rows <= 10_000 else 8 if n_rows <= 100_000 else 16
