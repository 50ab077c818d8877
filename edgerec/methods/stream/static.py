"""Static sizes: chosen once, by a random search with BET's sampler, and never changed.

Later rows have the smallest size. Under a fixed total the chosen rows shrink, largest first, to make space for new
ones, since the total of a growing stream is constant.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgerec.data.ids import rows_of
from edgerec.methods.search.sampler import Action, Sampler
from edgerec.methods.stream.policy import (
    DecisionContext,
    SegmentContext,
    SizePolicy,
    StreamMethod,
    evaluate_on_previous,
)
from edgerec.methods.stream.warm_start import sides_of
from edgerec.models import SizePlan, State, check_range

Sizes = NDArray[np.int64]


@dataclass(frozen=True)
class StaticStreamConfig:
    """Settings of static sizes.

    Attributes:
        actions: number of actions that are drawn and evaluated on the first segment; the best is used.
    """

    actions: int = 30

    def __post_init__(self) -> None:
        """Raise SettingError for values out of range."""
        check_range("actions", self.actions, 1, 1e6)


class StaticStream(StreamMethod):
    """Sizes of the first segment, for all segments."""

    name: ClassVar[str] = "static"
    config: ClassVar[type[StaticStreamConfig]] = StaticStreamConfig

    def policy(self, config: StaticStreamConfig, d: int, seed: int) -> SizePolicy:
        return StaticPolicy(config, seed)


@dataclass(frozen=True)
class Chosen:
    """Sizes by raw id, of users and of items.

    Attributes:
        ids: sorted raw ids of users and of items.
        sizes: sizes of their rows.
    """

    ids: tuple[NDArray[Any], NDArray[Any]]
    sizes: tuple[Sizes, Sizes]

    def plan(self, segment_context: SegmentContext) -> SizePlan:
        """Return the same sizes, and the smallest size for all other rows."""
        known, budget = segment_context.segment.known, segment_context.budget
        sides = [np.ones(n, np.int64) for n in known.shape]
        sizes = np.concatenate(self.sizes)
        left = budget.total - (sum(known.shape) - sizes.size)
        parts = np.split(cut_off(sizes, left, exactly=budget.exact), [self.sizes[0].size])
        for side, all_ids, own, part in zip(sides, (known.user_ids, known.item_ids), self.ids, parts, strict=True):
            side[rows_of(own, all_ids)] = part
        return SizePlan(budget.d, *sides)


def cut_off(sizes: Sizes, total: int, *, exactly: bool = True) -> Sizes:
    """Return (n,) sizes whose largest are reduced until they sum to at most `total`, which is at least n.

    With `exactly` reduced sizes sum to `total`; else all of them become equal, so that no distinct size is added. Sizes
    that sum to less are returned unchanged.
    """
    if sizes.sum() <= total:
        return sizes
    most = 1
    while np.minimum(sizes, most + 1).sum() <= total:
        most += 1
    cut = np.minimum(sizes, most)
    if exactly:
        cut[np.flatnonzero(sizes > most)[: total - int(cut.sum())]] += 1
    return cut


class StaticPolicy:
    """The policy of static sizes on one stream."""

    def __init__(self, config: StaticStreamConfig, seed: int) -> None:
        self._config, self._seed = config, seed
        self._chosen: Chosen | None = None

    def plan(self, context: DecisionContext) -> SizePlan:
        """Return uniform sizes at the first segment, then the sizes that were best on it."""
        if context.before is None:
            return context.now.uniform_sizes()
        if self._chosen is None:
            self._chosen = self._search(context, context.before)
        return self._chosen.plan(context.now)

    def report(self) -> dict[str, Any]:
        return {}

    def _search(self, context: DecisionContext, before: SegmentContext) -> Chosen:
        budget, known = before.budget, before.segment.known
        # One width is reserved for rows that appear later, which have the smallest size.
        if budget.user_widths is not None and budget.item_widths is not None:
            budget = replace(budget, user_widths=budget.user_widths - 1, item_widths=budget.item_widths - 1)
        sampler = Sampler(*before.counts("segment"), budget)
        rng = np.random.default_rng(self._seed)
        tried: list[tuple[float, Action]] = []
        for number in range(self._config.actions):
            action = sampler.draw(rng)
            plan, of = sampler.plan(action), self._config.actions
            found = evaluate_on_previous(context, before, plan, number, of, "random", action.to_json())
            tried.append((found.value, action))
        _, best = max(tried, key=lambda pair: pair[0])
        return Chosen((known.user_ids, known.item_ids), sides_of(sampler.plan(best)))

    def state(self) -> State:
        if self._chosen is None:
            return {}
        names = ("user_ids", "item_ids", "users", "items")
        return dict(zip(names, (*self._chosen.ids, *self._chosen.sizes), strict=True))

    def restore(self, state: State) -> None:
        if state:
            ids = state["user_ids"], state["item_ids"]
            self._chosen = Chosen(ids, (state["users"].astype(np.int64), state["items"].astype(np.int64)))
