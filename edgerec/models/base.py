"""Protocols of a backbone: a frozen config, a trainer that lives for one fit, and the vectors that it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from edgerec.data import Interactions
from edgerec.errors import TableError, UnsupportedError
from edgerec.models.scorer import NeuMFScorer
from edgerec.models.torch_tools import device_of
from edgerec.tables import RowCodes, SparseTable
from edgerec.tables.codes import in_int8

if TYPE_CHECKING:
    from edgerec.models.encoder import Encoded, Encoder

State = dict[str, NDArray[Any]]
"""State from which a trainer resumes after a kill, as plain arrays: no pickle."""


def join_states(parts: Mapping[str, State]) -> State:
    """Return the states of named parts as one state."""
    return {f"{part}.{name}": array for part, state in parts.items() for name, array in state.items()}


def state_of_part(state: State, part: str) -> State:
    """Return the state of a part of those that `join_states` joined; empty if it is not among them."""
    return {name.removeprefix(f"{part}."): array for name, array in state.items() if name.startswith(f"{part}.")}


SCORER_PREFIX = "scorer_"
"""Prefix of a scorer's array names among others."""
_UNTRUNCATED_PREFIX = "uncut_"  # as checkpoints store it
_ENCODER_PREFIX = "encoder_"
_CODES_PREFIX = "codes_"
_SPARSE_PREFIX = "sparse_"


def check_sizes(sizes: NDArray[np.int64] | None, n: int, d: int, side: str) -> None:
    """Raise TableError unless `sizes` is None or (n,) values in 1..d; `side` is for the message."""
    if sizes is None:
        return
    if sizes.shape != (n,):
        raise TableError(f"{side} sizes have shape {sizes.shape}; the table's {n} rows need ({n},)")
    if n and (sizes.min() < 1 or sizes.max() > d):
        raise TableError(f"{side} sizes run from {sizes.min()} to {sizes.max()}; they must lie in 1..{d}")


def prefix_mask(sizes: NDArray[np.int64], d: int) -> NDArray[np.bool_]:
    """Return (n, d) bool: True if dimension j of row n is one of its first sizes[n]."""
    mask: NDArray[np.bool_] = np.arange(d) < sizes[:, None]
    return mask


def cut(table: NDArray[np.float32], sizes: NDArray[np.int64] | None) -> NDArray[np.float32]:
    """Return a copy of `table` (n, d) with the values past each row's size set to zero."""
    if sizes is None:
        return table.copy()
    return np.where(prefix_mask(sizes, table.shape[1]), table, np.float32(0))


@dataclass(frozen=True)
class SizePlan:
    """The number of leading dimensions that each row may use (a prefix mask).

    Attributes:
        d: dimensions of a full row.
        users: (n_users,) sizes in 1..d, or None for full rows.
        items: (n_items,) sizes in 1..d, or None for full rows.
    """

    d: int
    users: NDArray[np.int64] | None = None
    items: NDArray[np.int64] | None = None

    def check(self, train: Interactions) -> None:
        """Raise TableError for sizes that do not fit the rows of `train`."""
        check_sizes(self.users, train.n_users, self.d, "user")
        check_sizes(self.items, train.n_items, self.d, "item")


@dataclass(frozen=True)
class Vectors:
    """User and item vectors of a fit; score(u, i) = users[u] . items[i], or a scorer's score of the two rows.

    Values past a row's size are exactly zero.

    Attributes:
        users: (n_users, d) float32.
        items: (n_items, d) float32.
        encoder: computes users from histories, in models without a user table; None where users have a table.
        codes: bits and scales of items that are integer codes, whose users are rounded to int8 as in bundles; None
            for floats.
        scorer: scorer of NCF's rows; None for inner products.
        untruncated: full rows as trained, if rows were truncated to their sizes after training; else None.
        sparse_items: (n_items, n_items) table of a model of few values in rows of items, which has no dense rows:
            `users` and `items` have no dimensions then. None for all others.
    """

    users: NDArray[np.float32]
    items: NDArray[np.float32]
    encoder: Encoder | None = None
    codes: RowCodes | None = None
    scorer: NeuMFScorer | None = None
    untruncated: Vectors | None = None
    sparse_items: SparseTable | None = None

    def with_history(self, history: Interactions) -> Vectors:
        """Return the same vectors, with users without a table recomputed from `history` and the current items."""
        if self.encoder is None:
            return self
        users = self.encoder.users(history, self.items)
        return replace(self, users=users if self.codes is None else in_int8(users))

    def of_users(self, rows: slice) -> Vectors:
        """Return the vectors of some users and of all items."""
        whole = None if self.untruncated is None else self.untruncated.of_users(rows)
        return replace(self, users=self.users[rows], untruncated=whole)

    def arrays(self) -> State:
        """Return all arrays by name, as `from_arrays` takes them."""
        arrays: State = {"users": self.users, "items": self.items}
        if self.encoder is not None:
            numbers = {name: np.array(number) for name, number in self.encoder.settings().items()}
            arrays |= _prefixed(_ENCODER_PREFIX, numbers | self.encoder.arrays())
        if self.codes is not None:
            arrays |= _prefixed(_CODES_PREFIX, self.codes.arrays())
        if self.scorer is not None:
            arrays |= _prefixed(SCORER_PREFIX, self.scorer.arrays())
        if self.untruncated is not None:
            arrays |= _prefixed(_UNTRUNCATED_PREFIX, self.untruncated.arrays())
        if self.sparse_items is not None:
            arrays |= _prefixed(_SPARSE_PREFIX, self.sparse_items.arrays())
        return arrays

    @classmethod
    def from_arrays(cls, arrays: State) -> Vectors:
        """Return the vectors of named arrays. Raises KeyError, TypeError, ValueError if they form none."""
        untruncated, codes = _part(arrays, _UNTRUNCATED_PREFIX), _part(arrays, _CODES_PREFIX)
        sparse = _part(arrays, _SPARSE_PREFIX)
        return cls(
            arrays["users"],
            arrays["items"],
            _encoder_of(_part(arrays, _ENCODER_PREFIX)),
            RowCodes.from_arrays(codes) if codes else None,
            scorer_of(arrays),
            cls.from_arrays(untruncated) if untruncated else None,
            SparseTable.from_arrays(sparse, len(arrays["items"])) if sparse else None,
        )


def _prefixed(prefix: str, arrays: State) -> State:
    return {prefix + name: array for name, array in arrays.items()}


def _part(arrays: State, prefix: str) -> State:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _encoder_of(arrays: State) -> Encoder | None:
    from edgerec.models.encoder import LeastSquaresEncoder, LinearEncoder

    if not arrays:
        return None
    if "weights" in arrays:
        return LinearEncoder(arrays["weights"], float(arrays["power"]), arrays.get("matrix"), arrays.get("bias"))
    return LeastSquaresEncoder(float(arrays["alpha"]), float(arrays["reg"]))


def scorer_of(arrays: State) -> NeuMFScorer | None:
    """Return the scorer among named arrays, or None. Raises KeyError, ValueError if it is incomplete."""
    own = _part(arrays, SCORER_PREFIX)
    return NeuMFScorer.from_arrays(own) if own else None


def users_from_history(
    history: Interactions, items: NDArray[np.float32], weights: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return (n_users, d) float32: each user's sum over its history of weights[i] * items[i]."""
    return np.asarray(history.matrix() @ (weights[:, None] * items), np.float32)


class Trainer(Protocol):
    """One fit in progress. Bit-reproducible for a seed on CPU with one thread."""

    def epoch(self) -> dict[str, float]:
        """Train for one pass over the data; return values to display, such as a loss, by name."""
        ...

    def vectors(self) -> Vectors:
        """Return copies of the current vectors, masked to their sizes."""
        ...

    def state(self) -> State:
        """Return the state from which `restore` continues to the same result to the bit.

        Of several ranks tables, arrays of two dimensions, have the rank's rows, and are restored with those of all
        ranks, joined in their order; other arrays are the same on all ranks.
        """
        ...

    def restore(self, state: State) -> None:
        """Continue from `state()` of a trainer with the same arguments."""
        ...


@runtime_checkable
class SharingTrainer(Protocol):
    """A trainer that can start from what trainers of other settings computed."""

    def begin(self, start: Callable[[], Any]) -> None:
        """Start from `start()`, the `Backbone.shared_start`, if it is needed; before the first epoch."""
        ...


class Backbone(Protocol):
    """A model that scores users and items; registered by name in `edgerec.models`.

    Attributes:
        name: name on the command line.
        config: frozen dataclass of its settings; every field has a default and is documented.
        trainer_class: called with train, sizes, config, seed, threads and the device's name.
        user_table: False if a user's vector is computed from its history.
        sparse_rows: True if a row of items has few values, whose columns are items, as `Vectors.sparse_items`; a row's
            size is the number of its values.
        cpu_only: True if it trains on the CPU alone.
        size_exponent: exponent of frequencies in sizes by popularity, unless a setting gives it.
        max_epochs: maximum number of epochs.
        patience: epochs without a better validation NDCG@20 before training stops.
        axes: values to try, in order, of each setting that may be None, which is then chosen on validation. The best
            values of the first two rise together.
        typical: a value of each of these settings, from which the search starts and which a trainer takes for None.
        trial_epochs: maximum number of epochs of a trial of settings.
        starts_trained: True if the vectors before the first epoch are those of another model, which training may not
            improve: then they may be chosen, as epoch 0.
        finalists: number of the best trials that are trained in full, of which the best is chosen.
    """

    name: ClassVar[str]
    config: ClassVar[type[Any]]
    trainer_class: ClassVar[Callable[..., Trainer]]
    user_table: ClassVar[bool] = True
    sparse_rows: ClassVar[bool] = False
    cpu_only: ClassVar[bool] = False
    size_exponent: ClassVar[float] = 0.25
    max_epochs: ClassVar[int]
    patience: ClassVar[int]
    axes: ClassVar[Mapping[str, Sequence[float]]] = MappingProxyType({})
    typical: ClassVar[Mapping[str, float]] = MappingProxyType({})
    trial_epochs: ClassVar[int] = 1
    starts_trained: ClassVar[bool] = False
    finalists: ClassVar[int] = 1

    def for_precision(self, config: Any, precision: str, *, whole_bundle: bool = False) -> Any:
        """Return the settings for tables that are exported in this precision, in a bundle of limited bytes or not."""
        return config

    def code_bits(self, config: Any) -> int | None:
        """Return the bits of the codes that items are trained in, as bundles store them; None for floats."""
        return None

    def open_axes(self, config: Any) -> dict[str, Sequence[float]]:
        """Return the axes of the settings that `config` leaves open."""
        return {name: values for name, values in self.axes.items() if getattr(config, name) is None}

    def variants(self, config: Any) -> list[tuple[Any, int]]:
        """Return settings to choose from, each with axes of its own, and how many of its trials are trained in full."""
        return [(config, self.finalists)]

    def trial(self, config: Any, max_epochs: int) -> tuple[Any, int]:
        """Return the settings and epochs of a trial of `config`, whose whole training has at most `max_epochs`."""
        return config, min(self.trial_epochs, max_epochs)

    def closed(self, config: Any) -> Any:
        """Return the same settings with the typical value of each that is open."""
        return replace(config, **{name: self.typical[name] for name in self.open_axes(config)})

    def shared_start(self, train: Interactions, d: int, config: Any, seed: int, device: str = "cpu") -> Any:
        """Return what trainers of all settings start from, so that it is computed once; None for nothing.

        Trainers of `train`, or of `train` with more interactions, take it by `begin`. It depends on these arguments
        alone, so that a fit that was stopped resumes to the same result.
        """
        return None

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
        """Start a fit of `train` within `sizes`; settings that are None in `config` take the class's defaults.

        With `threads` None, sparse products use one thread a core and torch uses one.

        Raises:
            UnsupportedError: a device that torch does not find, or sizes for users who have no table.
            TableError: sizes that do not fit the rows.
        """
        if device != "cpu":
            self.check_device(device)  # before any work
        if not self.user_table and sizes.users is not None:
            raise UnsupportedError(f"{self.name} has no user table, so users take no sizes: give SizePlan(users=None)")
        sizes.check(train)
        return self.trainer_class(train, sizes, self.closed(config), seed, threads, device)

    def check_device(self, device: str) -> None:
        """Raise UnsupportedError for a device that torch does not find, or that the backbone does not train on."""
        if self.cpu_only:
            raise UnsupportedError(
                f"the backbone {self.name} trains on the CPU only: leave the device {device!r} out, or choose another "
                "backbone"
            )
        device_of(device)

    def encode(
        self, vectors: Vectors, train: Interactions, config: Any, *, threads: int | None = None
    ) -> Encoded | None:
        """Return an encoder of histories for vectors that were fitted to `train`, with its vectors of the users.

        None if the backbone has no encoder.
        """
        ...

    def extra_parameters(self, d: int, config: Any) -> int:
        """Return the maximum number of float32 values in a bundle outside its tables of `d` dimensions."""
        return 0
