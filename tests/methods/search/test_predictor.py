"""BET's fitness predictor: sets that do not know an order, and ranks of actions that it has never seen."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr

from edgerec.budget import SizeBudget
from edgerec.methods.bet.predictor import Groups, Predictor
from edgerec.methods.search.sampler import Sampler
from edgerec.models import SizePlan

D = 32


def counts(n: int, seed: int) -> NDArray[np.int64]:
    return np.floor(np.random.default_rng(seed).lognormal(2.0, 1.0, n)).astype(np.int64)


@pytest.fixture
def sampler() -> Sampler:
    return Sampler(counts(200, 1), counts(150, 2), SizeBudget(200, 150, 350 * D // 10, D))


@pytest.fixture
def groups(sampler: Sampler) -> Groups:
    return Groups.of(sampler.user_counts, sampler.item_counts)


@pytest.fixture
def predictor(groups: Groups) -> Predictor:
    return Predictor(groups, D, 0)


def plans(sampler: Sampler, n: int, seed: int = 0) -> list[SizePlan]:
    rng = np.random.default_rng(seed)
    return [sampler.plan(sampler.draw(rng)) for _ in range(n)]


def test_members_count_rows_by_frequency_and_size() -> None:
    groups = Groups.of(np.array([7, 1, 7, 7]), np.array([2, 2]))
    assert groups.frequencies == pytest.approx([1 / 7, 1.0, 1.0])  # users' two frequencies, the items' one
    members = groups.members(SizePlan(3, np.array([3, 1, 3, 2]), np.array([1, 2])))
    assert members.tolist() == [[1, 0, 1], [0, 1, 1], [0, 2, 0]]


def test_the_order_of_rows_does_not_matter(sampler: Sampler) -> None:
    """Rows move together with their frequencies and sizes: the sets are the same."""
    rng = np.random.default_rng(3)
    users, items = rng.permutation(200), rng.permutation(150)
    moved = Groups.of(sampler.user_counts[users], sampler.item_counts[items])
    straight = Groups.of(sampler.user_counts, sampler.item_counts)
    for plan in plans(sampler, 5):
        assert plan.users is not None
        assert plan.items is not None
        other = SizePlan(D, plan.users[users], plan.items[items])
        one, two = Predictor(straight, D, 0), Predictor(moved, D, 0)
        assert one.predict([straight.members(plan)]) == two.predict([moved.members(other)])
        assert np.array_equal(one.embed([straight.members(plan)]), two.embed([moved.members(other)]))


def test_the_order_of_actions_does_not_matter(sampler: Sampler, groups: Groups, predictor: Predictor) -> None:
    """Alone or among others, in parts or in one go."""
    members = [groups.members(plan) for plan in plans(sampler, 60)]
    together = predictor.predict(members)
    assert together[::-1] == pytest.approx(predictor.predict(members[::-1]), abs=1e-6)
    assert together == pytest.approx([predictor.predict([one])[0] for one in members], abs=1e-6)


def test_users_and_items_are_different_things(groups: Groups, predictor: Predictor) -> None:
    """The same sizes for rows of the same frequencies count otherwise for the other side."""
    same = Groups.of(np.array([1, 2, 3]), np.array([1, 2, 3]))
    made = Predictor(same, D, 0)
    few, many = np.array([1, 2, 3]), np.array([10, 20, 30])
    one, other = (same.members(SizePlan(D, *sides)) for sides in ((few, many), (many, few)))
    assert made.predict([one]) != made.predict([other])


def test_the_embedding_is_as_the_paper_writes_it(groups: Groups, sampler: Sampler, predictor: Predictor) -> None:
    """Row by row, set by set, without any counting of equals."""

    def through(x: NDArray[np.float64], network: list[object]) -> NDArray[np.float64]:
        arrays = [np.asarray(part.detach().numpy(), np.float64) for part in network]  # type: ignore[attr-defined]
        for weights, biases in zip(arrays[::2], arrays[1::2], strict=True):
            x = x @ weights + biases
            x = np.where(x > 0, x, 0.01 * x)
        return x

    (plan,) = plans(sampler, 1)
    rows = []
    for network, frequencies in (
        (predictor._users, sampler.user_counts),
        (predictor._items, sampler.item_counts),
    ):
        shares = (frequencies / frequencies.max())[:, None]
        rows.append(through(shares, network))  # type: ignore[arg-type]
    q = np.concatenate(rows)
    assert plan.users is not None
    assert plan.items is not None
    sizes = np.concatenate([plan.users, plan.items])
    sets = []
    for size in range(1, D + 1):
        inside = q[sizes == size]
        mean = inside.mean(0) if len(inside) else np.zeros(16)
        sets.append(through(np.append(mean, size / D), predictor._sets))  # type: ignore[arg-type]
    h = np.mean(sets, axis=0)
    members = [groups.members(plan)]
    assert predictor.embed(members)[0] == pytest.approx(h, abs=1e-5)
    assert predictor.predict(members)[0] == pytest.approx(
        float(through(h, predictor._fitness)[0]),  # type: ignore[arg-type]
        abs=1e-5,
    )


def balanced(plan: SizePlan) -> float:
    """Best where users and items have as much a row, and popular items twice what the others have."""
    assert plan.users is not None
    assert plan.items is not None
    sides = plan.users.mean(), plan.items.mean()
    return float(0.9 - 0.1 * abs(np.log(sides[0] / sides[1])) - 0.05 * plan.items.std() / plan.items.mean())


def for_items(plan: SizePlan) -> float:
    assert plan.items is not None
    return float(0.6 + 0.02 * plan.items.mean())


@pytest.mark.slow
@pytest.mark.parametrize("fitness", [balanced, for_items])
def test_it_ranks_actions_that_it_has_never_seen(
    fitness: Callable[[SizePlan], float], sampler: Sampler, groups: Groups
) -> None:
    """After forty actions of a known fitness and steps as `own` has them."""
    rng, predictor = np.random.default_rng(0), Predictor(groups, D, 0, by_rows=True)
    seen, unseen = plans(sampler, 40, seed=1), plans(sampler, 150, seed=2)
    members, values = [groups.members(plan) for plan in seen], [fitness(plan) for plan in seen]
    untrained = spearmanr(predictor.predict([groups.members(plan) for plan in unseen]), [*map(fitness, unseen)])[0]
    for _ in range(8 * 100):
        pairs = rng.permutation(40)[:16]
        predictor.update([members[pair] for pair in pairs], [values[pair] for pair in pairs])
    trained = spearmanr(predictor.predict([groups.members(plan) for plan in unseen]), [*map(fitness, unseen)])[0]
    assert trained > 0.9
    assert trained > abs(untrained)


def test_by_rows_a_set_counts_as_often_as_it_has_rows(groups: Groups, sampler: Sampler) -> None:
    """And one without rows does not count at all: what other sizes there could be is nothing to an action."""
    plain, by_rows = Predictor(groups, D, 0), Predictor(groups, D, 0, by_rows=True)
    for plan in plans(sampler, 3):
        members = groups.members(plan)
        there = members.sum(1) > 0
        sets = [np.where((np.arange(D) == at)[:, None], members, 0) for at in np.flatnonzero(there)]
        embedded = by_rows.embed(sets)  # of one set alone it is that set's
        expected = (embedded * members[there].sum(1)[:, None]).sum(0) / members.sum()
        assert by_rows.embed([members])[0] == pytest.approx(expected, abs=1e-5)
        assert plain.embed([members])[0] != pytest.approx(expected, abs=1e-3)


def test_steps_shrink_where_they_are_to(groups: Groups, sampler: Sampler) -> None:
    members = [groups.members(plan) for plan in plans(sampler, 1)]
    steady, shrinking = Predictor(groups, D, 0), Predictor(groups, D, 0, decay=0.5)
    for made in (steady, shrinking):
        before = made.predict(members)
        errors = [made.update(members, [5.0]) for _ in range(4)]
        assert errors[0] == pytest.approx((before[0] - 5) ** 2, rel=1e-4)
        assert errors == sorted(errors, reverse=True)
    assert steady.predict(members)[0] > shrinking.predict(members)[0]


def test_seeds_decide_the_weights(groups: Groups, sampler: Sampler) -> None:
    members = [groups.members(plan) for plan in plans(sampler, 1)]
    values = [Predictor(groups, D, seed).predict(members)[0] for seed in (0, 0, 1)]
    assert values[0] == values[1] != values[2]
