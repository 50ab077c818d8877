"""What a stream keeps from one segment to the next, and how rows move to another size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.data import Interactions
from edgerec.methods.stream.room import sides_of
from edgerec.models import SizePlan, State
from edgerec.models.prefix import cut, prefix_mask
from edgerec.tables import PrefixTable

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]

NOISE = 0.01
"""Standard deviation of what new rows, and new dimensions of old ones, begin with (SCALL's code)."""


@dataclass(frozen=True)
class Side:
    """One side's rows.

    Attributes:
        ids: (n,) raw ids, sorted.
        table: what training goes on from: never more than the budget.
    """

    ids: NDArray[Any]
    table: PrefixTable

    @classmethod
    def of(cls, ids: NDArray[Any], rows: Floats, sizes: Rows) -> Side:
        """The first sizes (n,) values of rows (n, d)."""
        return cls(ids, PrefixTable.from_dense(rows, sizes))

    def places(self, ids: NDArray[Any]) -> Rows:
        """(n,) where the own rows stand among `ids`, which are sorted and have all of them."""
        return np.searchsorted(ids, self.ids)

    def moved(self, ids: NDArray[Any], sizes: Rows, d: int, rng: np.random.Generator) -> Floats:
        """(len(ids), d) rows of sizes (len(ids),): the first min(old, new) values of each, and noise behind."""
        rows = (NOISE * rng.standard_normal((len(ids), d))).astype(np.float32)
        places = self.places(ids)
        rows[places] = np.where(prefix_mask(self.table.sizes(), d), self.table.dense(), rows[places])
        return cut(rows, sizes)

    def resized(self, ids: NDArray[Any], sizes: Rows) -> NDArray[np.bool_]:
        """(len(ids),) whether a row is new, or of another size than before."""
        changed = np.ones(len(ids), np.bool_)
        places = self.places(ids)
        changed[places] = sizes[places] != self.table.sizes()
        return changed


@dataclass(frozen=True)
class Carry:
    """Users and items as a segment leaves them."""

    users: Side
    items: Side

    @classmethod
    def of(cls, known: Interactions, plan: SizePlan, users: Floats, items: Floats) -> Carry:
        """Rows of the users and items of `known`, cut to a plan that sizes both sides."""
        of_users, of_items = sides_of(plan)
        return cls(Side.of(known.user_ids, users, of_users), Side.of(known.item_ids, items, of_items))

    def moved(self, known: Interactions, plan: SizePlan, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """(n_users, d) and (n_items, d) rows of all that are known, as `Side.moved` makes each side's."""
        of_users, of_items = sides_of(plan)
        users = self.users.moved(known.user_ids, of_users, plan.d, rng)
        return users, self.items.moved(known.item_ids, of_items, plan.d, rng)

    def means(self) -> Floats:
        """(2 d,) the mean user and the mean item."""
        return np.concatenate([side.table.dense().mean(0) for side in (self.users, self.items)])

    def state(self) -> State:
        """All of it as arrays."""
        state: State = {"d": np.array(self.users.table.d)}
        for name, side in (("users", self.users), ("items", self.items)):
            state[f"{name}.ids"] = side.ids
            state |= {f"{name}.{key}": array for key, array in side.table.arrays().items()}
        return state

    @classmethod
    def from_state(cls, state: State) -> Carry:
        """The inverse of `state`. Raises KeyError, TableError where the arrays do not make one."""
        sides = []
        for name in ("users", "items"):
            arrays = {key.removeprefix(f"{name}."): state[key] for key in state if key.startswith(f"{name}.")}
            sides.append(Side(arrays["ids"], PrefixTable.from_arrays(arrays, int(state["d"]))))
        return cls(*sides)
