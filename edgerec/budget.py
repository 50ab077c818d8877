"""Budgets: how much a recommender may take, and the exact integer sizes that keep to it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgerec.errors import BudgetError

BudgetKind = Literal["share", "bytes", "bytes_per_row", "parameters"]

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_SPELLINGS = "'10%' of the dense fp32 table, '512KiB' of bundle, '8B/row', or a parameter count such as '250000'"


@dataclass(frozen=True)
class Budget:
    """A limit in one of four spellings.

    Attributes:
        kind: 'share' of the dense fp32 table, 'bytes' of the whole bundle, 'bytes_per_row' of stored values,
            'parameters' (the papers' view).
        amount: a fraction in (0, 1], bytes, bytes a row, or a count.
    """

    kind: BudgetKind
    amount: float

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read '10%', '512KiB', '8B/row' or '250000'. Raises BudgetError."""
        spelled = text.strip()
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%|[KMG]i?B|B|B/row)?", spelled)
        if match is None:
            raise BudgetError(f"cannot read the budget {text!r}: give {_SPELLINGS}")
        number, unit = float(match[1]), match[2]
        if unit == "%":
            budget = cls("share", number / 100)
        elif unit == "B/row":
            budget = cls("bytes_per_row", number)
        elif unit is None:
            budget = cls("parameters", number)
        else:
            budget = cls("bytes", number * _UNITS[unit])
        if number <= 0 or (unit == "%" and number > 100):
            raise BudgetError(f"the budget {text!r} is out of range: give {_SPELLINGS}")
        return budget

    def __str__(self) -> str:
        if self.kind == "share":
            return f"{self.amount * 100:g}%"
        if self.kind == "bytes_per_row":
            return f"{self.amount:g}B/row"
        return f"{self.amount:.0f}B" if self.kind == "bytes" else f"{self.amount:.0f}"

    def values(self, n_rows: int, d: int, *, bytes_per_value: float = 4, overhead: int = 0) -> int:
        """The number of values that `n_rows` rows of at most `d` dimensions may hold.

        Args:
            bytes_per_value: what a value takes where it ships; 4 for fp32, 1 for int8.
            overhead: bytes of the bundle that are not values; taken off a budget in bytes only, since the other
                spellings speak of the table alone.

        Raises:
            BudgetError: less than one value a row; the message names the smallest budget that would do.
        """
        exact = {
            "share": self.amount * n_rows * d,
            "bytes": (self.amount - overhead) / bytes_per_value,
            "bytes_per_row": self.amount * n_rows / bytes_per_value,
            "parameters": self.amount,
        }[self.kind]
        count = min(int(exact + 1e-6), n_rows * d)
        if count < n_rows:
            smallest = {
                "share": f"{100 / d:.4g}%",
                "bytes": f"{int(np.ceil(n_rows * bytes_per_value)) + overhead}B",
                "bytes_per_row": f"{bytes_per_value:g}B/row",
                "parameters": str(n_rows),
            }[self.kind]
            raise BudgetError(
                f"a budget of {self} leaves {max(count, 0)} values for {n_rows} rows, and each row needs one; "
                f"the smallest budget is {smallest}"
            )
        return count


def parse_bytes(text: str) -> int:
    """A size such as '200KiB' or '4096' in bytes. Raises BudgetError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]i?B|B)?", text.strip())
    if match is None or float(match[1]) <= 0:
        raise BudgetError(f"cannot read the size {text!r}: give bytes, or a number with B, KB, MB, GB, KiB, MiB or GiB")
    return int(float(match[1]) * _UNITS[match[2] or "B"])


def format_bytes(count: float) -> str:
    """Bytes for people: '312 B', '1.5 KiB', '38.1 MiB'."""
    for unit in ("B", "KiB", "MiB"):
        if abs(count) < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def project_sizes(weights: ArrayLike, total: int, lo: int, hi: int) -> NDArray[np.int64]:
    """Integer sizes in lo..hi that follow `weights` and sum to `total` exactly.

    Finds tau with sum clip(tau * weights, lo, hi) = total by bisection, rounds down, and gives the missing units
    to the largest remainders; a larger weight never gets a smaller size. This is the projection that BET, SCALL and
    CIESS share here: their published rounding can miss the budget by 5 %.

    Args:
        weights: (n,) positive and finite.
        total: n * lo <= total <= n * hi.

    Raises:
        BudgetError: weights that are not positive and finite, or a total that no sizes can meet.
    """
    weight = np.asarray(weights, np.float64)
    n = weight.size
    if weight.ndim != 1 or n == 0:
        raise BudgetError(f"sizes need one weight a row for at least one row, got shape {weight.shape}")
    if not (np.isfinite(weight).all() and (weight > 0).all()):
        raise BudgetError("weights must be positive and finite")
    if not 0 <= lo <= hi or not n * lo <= total <= n * hi:
        raise BudgetError(f"{n} sizes in {lo}..{hi} sum to {n * lo}..{n * hi}; {total} cannot be met")
    weight = weight / weight.max()
    # Bisection in log space: weights may span hundreds of orders of magnitude.
    low, high = -1.0, np.log(max(hi, 1)) - np.log(weight.min()) + 1.0
    for _ in range(200):
        middle = (low + high) / 2
        if np.clip(np.exp(middle) * weight, lo, hi).sum() > total:
            high = middle
        else:
            low = middle
    exact = np.clip(np.exp(low) * weight, lo, hi)
    sizes = np.floor(exact).astype(np.int64)
    missing = total - int(sizes.sum())
    # By remainder, then by weight, then by place; more than one round only where rounding noise hides units.
    order = np.lexsort((np.arange(n), -weight, -(exact - sizes)))
    while missing > 0:
        open_rows = order[sizes[order] < hi][:missing]
        sizes[open_rows] += 1
        missing -= open_rows.size
    return sizes


def merge_sizes(sizes: ArrayLike, most: int) -> NDArray[np.int64]:
    """The at most `most` widths that pad `sizes` the least: each row takes the smallest width that holds it.

    Dynamic programming over the distinct sizes; exact. Fewer widths come back where fewer suffice.

    Args:
        sizes: (n,) positive integers.
        most: 1 or more.

    Returns:
        The widths, ascending.
    """
    return width_choices(sizes, most)[-1]


def width_choices(sizes: ArrayLike, most: int) -> list[NDArray[np.int64]]:
    """For 1, 2, ... up to `most` widths, those that pad the least (see `merge_sizes`)."""
    distinct, counts = np.unique(np.asarray(sizes, np.int64), return_counts=True)
    m = distinct.size
    rows = np.concatenate([[0], np.cumsum(counts)])
    # cost[j] over the first j distinct sizes with the widths so far; the last width is always distinct[j - 1].
    cost = np.full(m + 1, np.inf)
    cost[0] = 0
    previous: list[NDArray[np.int64]] = []
    choices: list[NDArray[np.int64]] = []
    for _ in range(min(most, m)):
        # step[i, j]: sizes i..j-1 share the width distinct[j - 1]
        step = cost[:, None] + (rows[None, 1:] - rows[:, None]) * distinct[None, :]
        step[np.arange(m + 1)[:, None] > np.arange(m)[None, :]] = np.inf
        best = step.argmin(0)
        previous.append(best)
        cost = np.concatenate([[np.inf], step[best, np.arange(m)]])
        choices.append(_trace(previous, distinct))
    return choices


def _trace(previous: list[NDArray[np.int64]], distinct: NDArray[np.int64]) -> NDArray[np.int64]:
    widths, end = [], distinct.size
    for best in reversed(previous):
        widths.append(distinct[end - 1])
        end = int(best[end - 1])
    return np.array(widths[::-1], np.int64)


def snap_sizes(weights: ArrayLike, total: int, lo: int, hi: int, most: int = 16) -> NDArray[np.int64]:
    """Sizes as of `project_sizes`, but with at most `most` distinct values and a sum of at most `total`.

    A table of few widths ships without padding. The total that is projected shrinks until the merged sizes fit;
    what is then left is spent on moving the heaviest rows up to their next width.

    Raises BudgetError as `project_sizes` does.
    """
    weight = np.asarray(weights, np.float64)
    sizes = project_sizes(weight, total, lo, hi)
    low, high = weight.size * lo, total
    best = np.full(weight.size, lo, np.int64)
    while low <= high:
        middle = (low + high + 1) // 2
        sizes = project_sizes(weight, middle, lo, hi)
        widths = merge_sizes(sizes, most)
        merged = widths[np.searchsorted(widths, sizes)]
        if merged.sum() <= total:
            low, best = middle + 1, merged
        else:
            high = middle - 1
    return _spend(best, weight, total)


def _spend(sizes: NDArray[np.int64], weight: NDArray[np.float64], total: int) -> NDArray[np.int64]:
    """Move rows, heaviest first inside each width, to the next width while the total allows."""
    widths = np.unique(sizes)
    spent = sizes.copy()
    for lower, upper in zip(widths[-2::-1], widths[:0:-1], strict=True):
        room = (total - int(spent.sum())) // int(upper - lower)
        at = np.flatnonzero(sizes == lower)
        rising = at[np.argsort(-weight[at], kind="stable")][:room]
        spent[rising] = upper
    return spent
