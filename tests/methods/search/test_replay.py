"""The replay memory: what is drawn was pushed, in the right order, and no more is held than was said."""

from __future__ import annotations

import numpy as np
import pytest

from edgerec.methods.ciess.environment import Replay

N, D = 7, 40


def size(lane: int, iteration: int) -> np.ndarray:
    """(N,) sizes that tell lane, iteration and row apart."""
    return (1 + lane * 16 + iteration * 2 + np.arange(N) % 2).astype(np.int64)


def filled(visits: int, lanes: int, iterations: int, episodes: int = 1, known: np.ndarray | None = None) -> Replay:
    replay = Replay(N, D, visits, np.ones(N, np.bool_) if known is None else known, lanes)
    for _ in range(episodes):
        for iteration in range(iterations):
            for lane in range(lanes):
                sizes = size(lane, iteration)
                shown, paid = (sizes / 100).astype(np.float32), (sizes / 50).astype(np.float32)
                replay.push(sizes, shown, paid, begins=iteration == 0)
    return replay


@pytest.mark.parametrize("lanes", [1, 2, 3])
@pytest.mark.parametrize("visits", [1, 4, 100])
def test_what_is_drawn_followed_on_what_stood_before(lanes: int, visits: int) -> None:
    drawn = filled(visits, lanes, iterations=5, episodes=3).draw(4000, np.random.default_rng(0))
    after = {(lane, iteration): size(lane, iteration) for lane in range(lanes) for iteration in range(5)}
    pairs = set()
    for row, before, now, q_before, q, paid in zip(
        drawn.rows, drawn.sizes_before, drawn.sizes, drawn.shown_before, drawn.shown, drawn.paid, strict=True
    ):
        (lane, iteration) = next(key for key, sizes in after.items() if sizes[row] == now)
        pairs.add((lane, iteration))
        assert before == (D if iteration == 0 else after[lane, iteration - 1][row])
        assert q == np.float32(now / 100)
        assert paid == np.float32(now / 50)
        assert q_before == (1 if iteration == 0 else np.float32(before / 100))
    assert len(pairs) == min(visits, 5 * lanes)
    assert set(drawn.rows.tolist()) == set(range(N))


def test_nothing_is_learnt_of_unknown_rows() -> None:
    known = np.arange(N) % 3 == 0
    replay = filled(10, 1, iterations=4, known=known)
    assert len(replay) == 4 * known.sum()
    assert set(replay.draw(500, np.random.default_rng(0)).rows.tolist()) == set(np.flatnonzero(known).tolist())


def test_memory_is_bounded_however_long_the_search() -> None:
    replay, held = Replay(N, D, 5, np.ones(N, np.bool_)), set()
    for iteration in range(50):
        replay.push(np.full(N, 1 + iteration % D), *np.ones((2, N), np.float32), begins=False)
        held.add(replay.nbytes)
        assert len(replay) == N * min(iteration + 1, 5)
    assert held == {6 * (9 * N + 1)}


def test_the_last_visit_is_that_of_its_lane() -> None:
    replay = filled(10, 3, iterations=4)
    for lane in range(3):
        sizes, quality = replay.last(lane)
        assert np.array_equal(sizes, size(lane, 3))
        assert np.allclose(quality, sizes / 100)


def test_it_follows_from_the_last_visits_alone() -> None:
    whole, again = (Replay(N, D, 4, np.ones(N, np.bool_), 2) for _ in range(2))
    again.pushed = 13 - 6
    for number in range(13):
        for memory in (whole, again) if number >= again.pushed else (whole,):
            memory.push(size(number % 2, number // 2), *np.full((2, N), number, np.float32), begins=number % 5 == 0)
    one, other = (memory.draw(300, np.random.default_rng(3)) for memory in (whole, again))
    assert all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("rows", "sizes_before", "sizes", "shown_before", "shown", "paid")
    )


@pytest.mark.parametrize("d", [255, 256, 70_000])
def test_large_sizes_are_kept(d: int) -> None:
    replay = Replay(N, d, 2, np.ones(N, np.bool_))
    replay.push(np.full(N, d), *np.ones((2, N), np.float32), begins=True)
    assert (replay.draw(5, np.random.default_rng(0)).sizes == d).all()
