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
    for_users = job.users_part(total, user_share)
    user_sizes = snap_sizes(user_weights, for_users, 1, job.d, user_widths) if job.user_table else None
    item_sizes = snap_sizes(item_weights, total - for_users, 1, job.d, item_widths)
    return SizePlan(job.d, user_sizes, item_sizes)


def _default_widths(n_rows: int) -> int:
    return 4 if n_rows <= 10_000 else 8 if n_rows <= 100_000 else 16
