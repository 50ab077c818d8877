"""Each method follows a real stream within its budget; SCALL's agent learns what is planted, and resumes to the bit."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from edgerec.budget import Budget
from edgerec.data import Stream
from edgerec.errors import SettingError, UnsupportedError
from edgerec.methods.rules import PopularityStreamConfig
from edgerec.methods.search.history import SearchHistory
from edgerec.methods.stream import STREAM_METHODS, DecisionContext, stream_method
from edgerec.methods.stream.policy import SegmentContext, Trial, UserMetric, size_budget, values_of
from edgerec.methods.stream.scall import VARIANTS, SCALLConfig, SCALLPolicy
from edgerec.methods.stream.static import StaticStreamConfig, cut_off
from edgerec.methods.stream.warm_start import sides_of
from edgerec.models import SizePlan
from tests.methods.stream.conftest import STAR, D, Follow

FEW = {"scall": {"steps": 4, "groups": 8, "deploy": "actor"}, "static": {"actions": 4}}


@pytest.mark.slow
@pytest.mark.parametrize("budget", ["25%", "450"])
@pytest.mark.parametrize("name", STREAM_METHODS)
def test_the_budget_holds_at_every_segment_and_in_every_try(follow: Follow, name: str, budget: str) -> None:
    tried: list[SizePlan] = []
    previous = None
    for now, plan in follow(name, budget, config=FEW.get(name), evaluated=tried):
        # A static table leaves unspent what a budget that grows with the rows would give to newcomers.
        assert values_of(plan) == now.budget.total or (name == "static" and budget == "25%")
        assert values_of(plan) <= now.budget.total
        assert plan.users is not None
        assert plan.items is not None
        assert (plan.users.size, plan.items.size) == now.segment.known.shape
        for sizes in (plan.users, plan.items, *(side for one in tried for side in (one.users, one.items))):
            assert sizes is not None
            assert sizes.min() >= 1
            assert sizes.max() <= D
        for one in tried:  # tries are of the segment before
            assert previous is not None
            assert values_of(one) == previous.budget.total
        assert (len(tried) > 0) == (now.segment.number in {"scall": range(2, 9), "static": {1}}.get(name, {}))
        tried.clear()
        previous = now


def context(stream: Stream, number: int, evaluate: object, history: SearchHistory | None = None) -> DecisionContext:
    scenes = []
    for at in (number - 1, number):
        segment = stream.segment(at)
        scenes.append(SegmentContext(segment, size_budget(Budget.parse("50%"), segment.known, D), None))
    return DecisionContext(scenes[1], scenes[0], evaluate, history or SearchHistory(None), lambda step: None)  # type: ignore[arg-type]


def share_of_users(plan: SizePlan) -> float:
    return float(sides_of(plan)[0].sum()) / values_of(plan)


@pytest.mark.slow
@pytest.mark.parametrize("wanted", [0.45, 0.85])
def test_the_agent_finds_the_share_that_is_paid(rise_and_fall: Stream, wanted: float) -> None:
    """The metric of a plan is planted here: it falls with the distance of the users' share from `wanted`."""

    def metric(plan: SizePlan) -> UserMetric:
        return np.full(9, 1 - (share_of_users(plan) - wanted) ** 2)

    policy = SCALLPolicy(SCALLConfig(steps=60, least=60, groups=8, deploy="actor"), D, seed=0)
    plan = policy.plan(context(rise_and_fall, 2, metric))
    assert share_of_users(plan) == pytest.approx(wanted, abs=0.12)


def test_uniform_sizes_stay_where_nothing_is_better(rise_and_fall: Stream) -> None:
    def metric(plan: SizePlan) -> UserMetric:
        return np.full(9, 1.0 - np.ptp(sides_of(plan)[0]))

    policy = SCALLPolicy(SCALLConfig(steps=5, groups=8), D, seed=0)
    now = context(rise_and_fall, 2, metric)
    for ours, equal in zip(sides_of(policy.plan(now)), sides_of(now.now.uniform_sizes()), strict=True):
        assert np.array_equal(ours, equal)
    assert policy.report() == {}


def test_what_is_better_by_chance_is_not_deployed(rise_and_fall: Stream) -> None:
    """Equal sizes are as good as any: what differs is noise, and only 'best' falls for it."""
    chosen = {}
    for deploy in ("best", "sure"):
        rng = np.random.default_rng(0)
        policy = SCALLPolicy(SCALLConfig(steps=12, groups=8, deploy=deploy), D, seed=0)
        policy.plan(context(rise_and_fall, 2, lambda plan, rng=rng: rng.random(30)))
        chosen[deploy] = policy.report()
    assert chosen["sure"] == {}
    assert chosen["best"] != {}


def test_doubt_takes_standard_errors_off() -> None:
    found = Trial(value=0.6, gain=0.1, error=0.04)
    assert found.ratio == pytest.approx(1.2)
    assert found.lower_bound(0) == 0.1
    assert found.lower_bound(2.0) == pytest.approx(0.02)


def test_exploring_stops_when_the_actor_says_the_same_again_and_again(rise_and_fall: Stream) -> None:
    history = SearchHistory(None)
    config = SCALLConfig(steps=30, least=6, settled=1.0, groups=8)
    SCALLPolicy(config, D, seed=0).plan(context(rise_and_fall, 2, lambda plan: np.ones(9), history))
    # Equal sizes, six tries, and what the actor says in the end.
    assert [entry["strategy"] for entry in history.evaluated] == ["equal", *["random"] * 6, "actor"]


def test_a_search_may_stop_as_soon_as_the_actor_has_said_enough(rise_and_fall: Stream) -> None:
    """The first search begins with no action of the actor: nothing of it is compared."""
    history = SearchHistory(None)
    config = SCALLConfig(steps=30, least=2, settled=1.0, groups=8)
    SCALLPolicy(config, D, seed=0).plan(context(rise_and_fall, 2, lambda plan: np.ones(9), history))
    assert [entry["strategy"] for entry in history.evaluated] == ["equal", *["random"] * 5, "actor"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_search_goes_on_after_a_kill_to_the_same_sizes(rise_and_fall: Stream, variant: str) -> None:
    config = replace(VARIANTS[variant], steps=5, groups=8, deploy="actor")

    def metric(plan: SizePlan) -> UserMetric:
        return np.full(9, 1 - (share_of_users(plan) - 0.7) ** 2)

    whole = SCALLPolicy(config, D, seed=3)
    plans = [whole.plan(context(rise_and_fall, number, metric)) for number in (2, 3)]
    # Another process: the state after segment 2, and a history that knows the first four tries of segment 3.
    first, again, history = SCALLPolicy(config, D, seed=3), SCALLPolicy(config, D, seed=3), SearchHistory(None)
    first.plan(context(rise_and_fall, 2, metric))
    again.restore(first.state())
    full = SearchHistory(None)
    first.plan(context(rise_and_fall, 3, metric, full))
    history.entries.extend(full.entries[:4])
    asked = []

    def counted(plan: SizePlan) -> UserMetric:
        asked.append(plan)
        return metric(plan)

    resumed = again.plan(context(rise_and_fall, 3, counted, history))
    assert len(asked) == len(full.entries) - 4 + 1  # equal sizes again, which others are compared with
    assert np.array_equal(resumed.users, plans[1].users)
    assert np.array_equal(resumed.items, plans[1].items)
    states = whole.state(), again.state()
    assert states[0].keys() == states[1].keys()
    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.slow
def test_scall_lets_a_star_rise_and_fall(follow: Follow) -> None:
    """Section 9.4, by a real search: rewards are of real trainings."""
    sizes = []
    for now, plan in follow("scall", "450", config={**FEW["scall"], "steps": 6}):
        assert values_of(plan) == now.budget.total == 450
        assert plan.items is not None
        sizes.append(int(plan.items[np.searchsorted(now.segment.known.item_ids, STAR)]))
    assert max(sizes[2:7]) > max(sizes[7:])


def test_a_static_table_never_changes_and_newcomers_are_smallest(follow: Follow) -> None:
    known: list[dict[int, int]] = []
    for now, plan in follow("static", "50%", config=FEW["static"]):
        assert plan.items is not None
        known.append(dict(zip(now.segment.known.item_ids.tolist(), plan.items.tolist(), strict=True)))
    first, later = known[1], known[2:]
    chosen = {item for item in known[0] if first[item] > 1}
    assert len(chosen) > 10
    for sizes in later:
        assert all(sizes[item] == first[item] for item in chosen)
        assert all(size == 1 for item, size in sizes.items() if item not in known[0])


def test_what_is_cut_off_is_cut_from_the_largest() -> None:
    sizes = np.array([1, 8, 3, 8, 5])
    assert cut_off(sizes, 25).tolist() == [1, 8, 3, 8, 5]
    assert cut_off(sizes, 20).tolist() == [1, 6, 3, 5, 5]
    assert cut_off(sizes, 20, exactly=False).tolist() == [1, 5, 3, 5, 5]
    assert cut_off(sizes, 5).tolist() == [1, 1, 1, 1, 1]


def test_popularity_follows_the_counts_it_is_told(follow: Follow) -> None:
    stars = {}
    for counts in ("all", "segment"):
        config = {"counts": counts, "exponent": 1.0}
        sizes = [
            int(plan.items[np.searchsorted(now.segment.known.item_ids, STAR)])  # type: ignore[index]
            for now, plan in follow("popularity", "450", config=config)
        ]
        stars[counts] = sizes
    assert stars["segment"][-1] < max(stars["segment"])
    assert stars["all"][-1] > stars["segment"][-1]


def test_names_and_settings_that_do_not_exist_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="uniform, popularity"):
        stream_method("bet")
    for wrong in ({"deploy": "worst"}, {"counts": "none"}, {"first_segment": 0}, {"steps": 0}, {"low": 2.0, "high": 1}):
        with pytest.raises(SettingError):
            SCALLConfig(**wrong)  # type: ignore[arg-type]
    with pytest.raises(SettingError):
        PopularityStreamConfig(exponent=-1)
    with pytest.raises(SettingError):
        replace(StaticStreamConfig(), actions=0)


def test_rooms_of_a_fixed_mean_grow_and_of_a_fixed_total_stay(follow: Follow) -> None:
    grown = [now.budget.total for now, _ in follow("uniform", "25%")]
    kept = {now.budget.total for now, _ in follow("uniform", "450")}
    assert all(one < two for one, two in pairwise(grown))
    assert kept == {450}
