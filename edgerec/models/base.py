"""What a backbone is: a frozen config, a trainer that dies after the fit, and the vectors it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from edgerec.data import Interactions
from edgerec.errors import UnsupportedError
from edgerec.models.prefix import check_sizes
from edgerec.models.scorer import NeuMFScorer

if TYPE_CHECKING:
    from edgerec.models.encoder import Encoded

State = dict[str, NDArray[Any]]
"""All that a trainer needs to go on after a kill, as plain arrays: no pickle."""
SCORER_PREFIX = "scorer_"
"""Of a scorer's arrays where they stand among others."""
_UNTRUNCATED_PREFIX = "uncut_"


@dataclass(frozen=True)
class SizePlan:
    """How many leading dimensions each row may use (a prefix mask).

    Attributes:
        d: dimensions of a full row.
        users: (n_users,) sizes in 1..d, or None for all full.
        items: (n_items,) sizes in 1..d, or None for all full.
    """

    d: int
    users: NDArray[np.int64] | None = None
    items: NDArray[np.int64] | None = None

    def check(self, train: Interactions) -> None:
        """Raises TableError for sizes that do not fit the rows of `train`."""
        check_sizes(self.users, train.n_users, self.d, "user")
        check_sizes(self.items, train.n_items, self.d, "item")


@dataclass(frozen=True)
class Vectors:
    """What a fit leaves; score(u, i) = users[u] . items[i], or what a scorer makes of the two rows. Values past a row's
    size are exactly zero.

    Attributes:
        users: (n_users, d) float32.
        items: (n_items, d) float32.
        history_weights: (n_items,) float32 where a user has no row of its own but is
            sum over its history of history_weights[i] * items[i]; None where users have a table.
        scorer: of NCF's rows; None for inner products.
        untruncated: the rows that training saw, where it did not cut them and what ships is cut; None elsewhere.
    """

    users: NDArray[np.float32]
    items: NDArray[np.float32]
    history_weights: NDArray[np.float32] | None = None
    scorer: NeuMFScorer | None = None
    untruncated: Vectors | None = None

    def with_history(self, history: Interactions) -> Vectors:
        """The same, with users who have no table made anew from `history` and the items as they are now."""
        if self.history_weights is None:
            return self
        return replace(self, users=users_from_history(history, self.items, self.history_weights))

    def arrays(self) -> State:
        """Everything by name, as `from_arrays` takes it."""
        named = {"users": self.users, "items": self.items, "history_weights": self.history_weights}
        arrays: State = {name: array for name, array in named.items() if array is not None}
        if self.scorer is not None:
            arrays |= {SCORER_PREFIX + name: array for name, array in self.scorer.arrays().items()}
        if self.untruncated is not None:
            arrays |= {_UNTRUNCATED_PREFIX + name: array for name, array in self.untruncated.arrays().items()}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: State) -> Vectors:
        """The vectors of these `arrays`. Raises KeyError, TypeError, ValueError where they do not make any."""
        prefixes = (SCORER_PREFIX, _UNTRUNCATED_PREFIX)
        own = {name: array for name, array in arrays.items() if not name.startswith(prefixes)}
        untruncated = {
            name.removeprefix(_UNTRUNCATED_PREFIX): array
            for name, array in arrays.items()
            if name.startswith(_UNTRUNCATED_PREFIX)
        }
        return cls(**own, scorer=scorer_of(arrays), untruncated=cls.from_arrays(untruncated) if untruncated else None)


def scorer_of(arrays: State) -> NeuMFScorer | None:
    """The scorer among named arrays; None where there is none. Raises KeyError, ValueError where it is not whole."""
    own = {name.removeprefix(SCORER_PREFIX): arrays[name] for name in arrays if name.startswith(SCORER_PREFIX)}
    return NeuMFScorer.from_arrays(own) if own else None


def users_from_history(
    history: Interactions, items: NDArray[np.float32], weights: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(n_users, d) float32: each user's sum over its history of weights[i] * items[i]."""
    return np.asarray(history.matrix() @ (weights[:, None] * items), np.float32)


def check_cpu(backbone: str, device: str) -> None:
    """Raises UnsupportedError for another device, of a backbone that trains on the CPU alone."""
    if device != "cpu":
        raise UnsupportedError(f"{backbone} runs on the CPU only, not on {device!r}; leave the device out")


class Trainer(Protocol):
    """One fit in progress. Bit-reproducible for a seed on CPU with one thread."""

    def epoch(self) -> dict[str, float]:
        """One pass over the data; what is worth showing (a loss) by name."""
        ...

    def vectors(self) -> Vectors:
        """Copies of the current vectors, masked to their sizes."""
        ...

    def state(self) -> State:
        """Everything that `restore` needs to continue to the same result to the bit."""
        ...

    def restore(self, state: State) -> None:
        """Continue from `state()` of a trainer made with the same arguments."""
        ...


class Backbone(Protocol):
    """A way to score users and items; registered by name in `edgerec.models`.

    Attributes:
        name: as spelled on the command line.
        config: its frozen dataclass; every field has a default and is documented.
        user_table: False where a user's vector is computed from its history.
        max_epochs: where training stops at the latest.
        patience: epochs without a better validation NDCG@20 before training stops.
    """

    name: ClassVar[str]
    config: ClassVar[type[Any]]
    user_table: ClassVar[bool]
    max_epochs: ClassVar[int]
    patience: ClassVar[int]

    def candidates(self, config: Any) -> Sequence[Any]:
        """The settings to choose among on validation; [config] if nothing is left open, as by default."""
        return [config]

    def trainer(
        self,
        train: Interactions,
        sizes: SizePlan,
        config: Any,
        *,
        seed: int,
        threads: int | None = None,
        device: str = "cpu",
    ) -> Trainer:
        """Start a fit of `train` within `sizes`."""
        ...

    def encode(
        self, vectors: Vectors, train: Interactions, config: Any, *, threads: int | None = None
    ) -> Encoded | None:
        """A way to make a user's vector from a history and the items, of vectors that were fitted to `train` with
        `config`; and what it makes of the users of `train`. None where there is no such way."""
        ...

    def extra_parameters(self, d: int, config: Any) -> int:
        """Float32 values, at most, that ship beside tables of `d` dimensions."""
        return 0
