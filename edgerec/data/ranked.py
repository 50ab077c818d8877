"""The interactions of one rank: those of a range of users, with counts of the items over the users of all ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgerec.data.interactions import COLUMNS, Interactions
from edgerec.data.split import Split
from edgerec.errors import DataError
from edgerec.extras import require
from edgerec.ranks import ALONE, Ranks, balanced

if TYPE_CHECKING:
    import scipy.sparse

_COST_OF_ROW = 32
"""Cost of a row in addition to its interactions, in interactions: about that of a solve in 64 dimensions."""


@dataclass(frozen=True)
class RankInteractions(Interactions):
    """Interactions of the users of one rank, over all items; rows of users are counted from the rank's first.

    Attributes:
        ranks: the processes that train together.
        first_user: the rank's first row among all users.
        all_users: number of all users.
        counts: (n_items,) interactions of each item with the users of all ranks.
    """

    ranks: Ranks = field(default=ALONE, repr=False)
    first_user: int = 0
    all_users: int = 0
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64), repr=False)

    @classmethod
    def of(cls, whole: Interactions, users: slice, ranks: Ranks) -> RankInteractions:
        """Return the interactions of a range of users; every rank calls this for the same part of the data."""
        own = replace(whole.users_between(users.start, users.stop), titles=None, categories=None)
        given = {one.name: getattr(own, one.name) for one in fields(Interactions)}
        return cls(
            **given, ranks=ranks, first_user=users.start, all_users=whole.n_users, counts=ranks.sum(own.item_counts())
        )

    @property
    def own_users(self) -> slice:
        return slice(self.first_user, self.first_user + self.n_users)

    def all_user_counts(self) -> NDArray[np.int64]:
        return self.ranks.gather(self.user_counts())

    def item_counts(self) -> NDArray[np.int64]:
        return self.counts

    @cached_property
    def own_items(self) -> slice:
        return balanced(self.counts + _COST_OF_ROW, self.ranks.count)[self.ranks.rank]

    def of_shards(self, shards: Sequence[Interactions]) -> Interactions:
        """Return interactions as `Interactions.of_shards` does; every rank calls this."""
        own = super().of_shards(shards)
        columns: dict[str, Any] = {name: getattr(own, name) for name in ("indptr", *COLUMNS)}
        return replace(self, **columns, counts=self.ranks.sum(own.item_counts()))

    def by_item(self) -> scipy.sparse.csr_array[Any, Any]:
        """Return the own items' matrix; each rank sends the others their items' interactions with its users."""
        sparse = require("scipy.sparse", "train")
        mine = self.matrix().T.tocsr()
        items = balanced(self.counts + _COST_OF_ROW, self.ranks.count)
        lengths = self.ranks.exchange([np.diff(mine.indptr[part.start : part.stop + 1]) for part in items])
        users = self.ranks.exchange([mine.indices[slice(*mine.indptr[[part.start, part.stop]])] for part in items])
        firsts = self.ranks.gather(np.array([self.n_users]))
        blocks = [
            sparse.csr_array(
                (np.ones(len(columns), np.float32), columns, np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])),
                shape=(len(counts), n),
            )
            for counts, columns, n in zip(lengths, users, firsts.tolist(), strict=True)
        ]
        joined: scipy.sparse.csr_array[Any, Any] = sparse.hstack(blocks, format="csr")
        return joined


def parts_of_rank(parts: Split, ranks: Ranks) -> Split:
    """Return a rank's users of each part of a split, so that all ranks have about the same number of interactions.

    Raises DataError if a rank had no users, or none with an interaction in a part: there are too many ranks.
    """
    counts = parts.train.user_counts()
    ranges = balanced(counts + _COST_OF_ROW, ranks.count)
    for part in (parts.train, parts.validation, parts.test):
        if len(part) and any(part.indptr[one.start] == part.indptr[one.stop] for one in ranges):
            raise DataError(
                f"{ranks.count} processes are too many for {parts.train.n_users} users: each needs some of every part "
                "of the split; give fewer --processes"
            )
    train, validation, test = (
        RankInteractions.of(part, ranges[ranks.rank], ranks) for part in (parts.train, parts.validation, parts.test)
    )
    return Split(train, validation, test, parts.spec)
