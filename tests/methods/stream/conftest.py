"""A stream in which one item gets popular and fades, and a small real training to evaluate sizes on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from edgerec.budget import Budget
from edgerec.data import Interactions, Stream, StreamSpec, stream
from edgerec.methods.search.history import SearchHistory
from edgerec.methods.stream import DecisionContext, SizePolicy, stream_method
from edgerec.methods.stream.policy import SegmentContext, UserMetric, size_budget
from edgerec.methods.stream.warm_start import PastSegment, StreamTraining
from edgerec.models import SizePlan, backbone
from edgerec.models.ials import IALSConfig

DAY = 86_400
STAR = 7
"""The item that rises and falls."""
FAME = (0.05, 0.05, 0.3, 0.6, 0.95, 0.6, 0.3, 0.05, 0.02)
"""The share of a day's users that touch it."""
D = 8

Follow = Callable[..., Iterator[tuple[SegmentContext, SizePlan]]]


@pytest.fixture(scope="session")
def rise_and_fall() -> Stream:
    """Nine days of forty users each, ten of whom were there the day before; two items are new each day. Taste is of two
    groups, and some items are more popular than others."""
    rng = np.random.default_rng(0)
    events: dict[tuple[int, int], int] = {}
    for day, fame in enumerate(FAME):
        items = np.arange(60 + 2 * day)
        for user in range(30 * day, 30 * day + 40):
            liked = items[(items % 2 == user % 2) & (items != STAR)]
            weights = 1.0 / (1 + np.arange(liked.size))
            chosen = rng.choice(liked, 8, replace=False, p=weights / weights.sum()).tolist()
            chosen += [STAR] if rng.random() < fame else []
            for item in chosen:
                events.setdefault((user, item), day * DAY + int(rng.integers(DAY)))
    users, items = np.array(list(events)).T
    whole = Interactions.from_pairs(users, items, timestamps=list(events.values()))
    return stream(whole, StreamSpec("days", 1, holdout="user"))


@pytest.fixture(scope="session")
def follow(rise_and_fall: Stream) -> Follow:
    """Follow the stream by a method: yields each segment's scene and plan; each is really trained."""

    def result(
        name: str,
        budget: str = "25%",
        *,
        policy: SizePolicy | None = None,
        config: dict[str, Any] | None = None,
        seed: int = 0,
        evaluated: list[SizePlan] | None = None,
        until: int | None = None,
    ) -> Iterator[tuple[SegmentContext, SizePlan]]:
        method = stream_method(name)
        policy = policy or method.policy(method.config(**(config or {})), D, seed)
        training = StreamTraining(backbone("ials"), IALSConfig(alpha=4.0, reg=1.0), threads=1)
        before: SegmentContext | None = None
        carry = None
        for segment in rise_and_fall:
            now = SegmentContext(segment, size_budget(Budget.parse(budget), segment.known, D), carry)

            def evaluate(plan: SizePlan, before: SegmentContext | None = before) -> UserMetric:
                assert before is not None
                if evaluated is not None:
                    evaluated.append(plan)
                return PastSegment(training, before.segment, before.carry).evaluate(plan)

            plan = policy.plan(DecisionContext(now, before, evaluate, SearchHistory(None), lambda step: None))
            yield now, plan
            if segment.number == until:
                return
            before, carry = now, training.carry_of(training.trained(segment, plan, carry), segment, plan)

    return result
