"""Requests to an open bundle, and what is wrong with the answers by the oracle."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.experiments.attack.oracle import EXACT, Floats, Ints, Oracle, Side
from edgerec import Recommender
from edgerec.errors import RequestError

Finding = tuple[str, str]
FLOAT32_MOST = 3.4e38
FLOAT32_LEAST = 1e-36
ROUNDED = 2.0**-22
"""Relative rounding error of the parts of a history's vector, which float32 sums up and which may cancel."""


def ask(model: Recommender, oracle: Oracle, known: bool, rng: np.random.Generator) -> Iterator[Finding]:
    """Yield findings of a bundle's answers; without a known form (`known`) only those that its answers show alone."""
    ids = oracle.ids("item")
    yield from refusals(model, oracle, ids)
    for _ in range(3):
        yield from one_user(model, oracle, known, ids, rng)
    if oracle.manifest["users"] is None:
        yield from empty_history(model, oracle, ids)
    if "similar" in oracle.manifest["graphs"] and len(ids) > 1:
        yield from similar(model, oracle, known, ids, rng)


def refusals(model: Recommender, oracle: Oracle, ids: list[Any]) -> Iterator[Finding]:
    """Yield requests that have to be refused and are not."""
    stranger = (
        "no such item 😀" if isinstance(ids[0], str) else next(n for n in range(len(ids) + 1) if n not in set(ids))
    )
    people: dict[str, Any] = {"user": oracle.ids("user")[0]} if oracle.manifest["users"] else {"history": ids[:1]}
    bad: list[dict[str, Any]] = [
        {**people, "k": 0},
        {**people, "k": -1},
        {**people, "k": len(ids) + 1},
        {**people, "k": 1, "exclude": [stranger]},
        {**people, "k": 1, "allow": [stranger]},
        {"k": 1},
        {"user": "nobody", "history": ids[:1]},
    ]
    for request in bad:
        try:
            answer = model.recommend(**request)
        except RequestError:
            continue
        except Exception as error:
            yield f"a bad request ends in {type(error).__name__}", f"{request}: {error}"[:300]
        else:
            yield "a bad request is answered", f"{request}: {answer}"[:300]


def one_user(
    model: Recommender, oracle: Oracle, known: bool, ids: list[Any], rng: np.random.Generator
) -> Iterator[Finding]:
    """Yield findings of recommend and score for one user or history."""
    n = len(ids)
    history: Ints = np.zeros(0, np.int64)
    if oracle.manifest["users"] is None:
        history = rng.choice(n, int(rng.integers(1, min(n, 12) + 1)), replace=False)
        who: dict[str, Any] = {"history": [ids[row] for row in rng.permutation(np.concatenate([history, history[:2]]))]}
        if not known or not oracle.items.scaled:
            vector = None
        elif oracle.manifest["encoder"]["kind"] == "ials":
            vector = model.encode(who["history"]).astype(np.float64)
            yield from solved(oracle, history, vector)
        else:
            vector = oracle.history(history)
    else:
        people = oracle.ids("user")
        row = int(rng.integers(len(people)))
        who, vector = {"user": people[row]}, None
        if known and oracle.user_side is not None:
            if oracle.user_side.scaled and oracle.items.scaled:
                vector = oracle.user_side.values[row]
            else:
                yield from proportional(oracle, row, model.score(**who, items=ids).astype(np.float64))
    excluded = rng.choice(n, int(rng.integers(0, n + 1)) if rng.random() < 0.5 else 0, replace=False)
    allowed = rng.choice(n, int(rng.integers(1, n + 1)), replace=False) if rng.random() < 0.4 else np.arange(n)
    left = np.setdiff1d(np.setdiff1d(allowed, excluded), history)
    k = int(rng.choice([1, min(5, n), n]))
    request: dict[str, Any] = {**who, "k": k, "exclude": [ids[row] for row in excluded]}
    if len(allowed) < n:
        request["allow"] = [ids[row] for row in allowed]
    answer = model.recommend(**request)
    scores = model.score(**who, items=ids).astype(np.float64)
    place = {one: row for row, one in enumerate(ids)}
    rows = np.array([place[item] for item, _ in answer], np.int64)
    best = np.array([score for _, score in answer], np.float64)
    about = f"k {k}, {len(left)} of {n} left"
    if len(rows) != min(k, len(left)):
        yield "recommend gives another number of items", f"{len(rows)}: {about}"
    if len(np.unique(rows)) != len(rows) or not np.isin(rows, left).all():
        yield "recommend gives an item that is excluded or repeated", about
    if np.isnan(scores).any() or np.isnan(best).any():
        yield "a score is NaN", about
        return
    if (np.diff(best) > 0).any():
        yield "recommend is not in order", about
    quantised, doubt = oracle.quantised(vector) if vector is not None and len(history) else (vector, None)
    if doubt is not None and oracle.manifest["encoder"]["kind"] == "linear":
        doubt = doubt + ROUNDED * oracle.summed(history)
    yield from _compare(oracle, quantised, doubt, scores, rows, best, left)


def _compare(
    oracle: Oracle,
    vector: Floats | None,
    doubt: Floats | None,
    scores: Floats,
    rows: Ints,
    best: Floats,
    left: Ints,
) -> Iterator[Finding]:
    spread = EXACT * np.abs(scores).max(initial=0.0) + 1e-44
    if vector is not None:
        for table, got, at, name in (
            (oracle.items, scores, np.arange(len(scores)), "score"),
            (oracle.scanned, best, rows, "recommend"),
        ):
            yield from _against(table, vector, doubt, got, at, name)
        spread = EXACT * (np.abs(oracle.items.values) @ np.abs(vector)).max(initial=0.0) + 1e-44
    finite = np.isfinite(best) & np.isfinite(scores[rows])
    if (np.abs(best - scores[rows])[finite] > spread).any():
        worst = np.abs(best - scores[rows])[finite].max() / (np.abs(scores).max() or 1)
        yield "recommend and score differ", f"by {worst:.3g} of the largest score"
    if len(rows) and len(rows) < len(left):
        rest = np.setdiff1d(left, rows)
        if (scores[rest].max() - best.min()) > 2 * spread:
            yield "an item left out scores more by score", f"{scores[rest].max():.6g} above {best.min():.6g}"


def _against(table: Side, vector: Floats, doubt: Floats | None, got: Floats, at: Ints, name: str) -> Iterator[Finding]:
    """Compare scores with the oracle's, relative to the sums of absolute products."""
    if not table.scaled:
        return
    values = table.values[at]
    expected, size = values @ vector, np.abs(values) @ np.abs(vector)
    allowed = EXACT * size + 1e-44
    if doubt is not None:
        allowed += np.abs(values) @ doubt
    if (size > FLOAT32_MOST).any():
        if not np.isfinite(got[size <= FLOAT32_MOST]).all():
            yield f"{name} is not finite beside an overflow", ""
        yield f"{name} overflows float32 in silence", f"{size.max():.3g}"
        return
    small = (size < FLOAT32_LEAST) & (size > 0)
    if small.any() and (np.abs(got - expected) > allowed)[small].any():
        yield f"{name} underflows float32 in silence", f"{size[small].max():.3g}"
    wrong = (np.abs(got - expected) > allowed) & ~small
    if wrong.any():
        worst = (np.abs(got - expected) / np.where(size > 0, size, 1))[wrong].max()
        yield f"{name} differs from the oracle", f"{int(wrong.sum())} of {len(got)}, by {worst:.3g} of their size"


def proportional(oracle: Oracle, user: int, scores: Floats) -> Iterator[Finding]:
    """Without known scales, scores of a block are the exact products of codes times one number."""
    people = oracle.user_side
    if people is None:
        return
    products = oracle.items.values @ people.values[user]
    sizes = np.abs(oracle.items.values) @ np.abs(people.values[user])
    for block in np.unique(oracle.items.blocks):
        here = oracle.items.blocks == block
        norm = products[here] @ products[here]
        times = products[here] @ scores[here] / norm if norm else 0.0
        allowed = EXACT * abs(times) * sizes[here] + 1e-44
        if norm and np.isfinite(scores[here]).all() and (np.abs(scores[here] - times * products[here]) > allowed).any():
            yield "scores are not proportional to the products of codes", f"block {block}"


def solved(oracle: Oracle, history: Ints, vector: Floats) -> Iterator[Finding]:
    expected = oracle.history(history)
    norm = np.linalg.norm(expected)
    if not np.isfinite(vector).all():
        yield "encode is not finite", ""
        return
    error = vector - expected
    if norm > FLOAT32_LEAST and not np.linalg.norm(error) <= 1.1e-3 * norm:
        # In directions that no item has, rounding may take up to 5 %: the norm of the system hardly sees those.
        unseen = oracle.system(history, error) <= (1.1e-3) ** 2 * oracle.system(history, expected)
        if not (unseen and np.linalg.norm(error) <= 0.051 * norm):
            yield "encode differs from the solve", f"relative {np.linalg.norm(error) / norm:.3g}"


def empty_history(model: Recommender, oracle: Oracle, ids: list[Any]) -> Iterator[Finding]:
    order = oracle.popular()
    try:
        answer = model.recommend(history=[], k=len(ids), exclude=ids[:1] if len(ids) > 1 else [])
    except RequestError as error:
        if order is not None:
            yield "an empty history is refused", str(error)
        return
    expected = None if order is None else [ids[row] for row in order if row > 0 or len(ids) == 1]
    if expected != [item for item, _ in answer] or any(score for _, score in answer):
        yield "an empty history is answered wrongly", f"{answer[:3]}"
    if np.any(model.score(history=[], items=ids)):
        yield "an empty history scores", ""


def similar(
    model: Recommender, oracle: Oracle, known: bool, ids: list[Any], rng: np.random.Generator
) -> Iterator[Finding]:
    row = int(rng.integers(len(ids)))
    k = int(rng.choice([1, min(5, len(ids)), len(ids)]))
    answer = model.similar(ids[row], k)
    place = {one: at for at, one in enumerate(ids)}
    rows = np.array([place[item] for item, _ in answer], np.int64)
    got = np.array([score for _, score in answer])
    if row in rows or len(np.unique(rows)) != len(rows) or len(rows) != min(k, len(ids) - 1):
        yield "similar gives itself, repeats, or another number", f"{len(rows)} where k is {k} of {len(ids)}"
    if not np.isfinite(got).all() or (np.abs(got) > 1.01).any():
        yield "similar gives no cosine", f"{got[:3]}"
        return
    if not known or not oracle.scanned.scaled:
        return
    cosines, promised = oracle.similar(row)
    if not promised[row]:
        return
    allowed = 2.5e-3
    here: NDArray[np.bool_] = promised[rows]
    if (np.abs(got - cosines[rows])[here] > allowed).any():
        yield "similar differs from the oracle", f"by {np.abs(got - cosines[rows])[here].max():.3g}"
    rest = np.setdiff1d(np.nonzero(promised)[0], [*rows, row])
    if len(rest) and len(got) and cosines[rest].max() > got.min() + 2 * allowed:
        yield "an item left out is more similar", f"{cosines[rest].max():.4g} above {got.min():.4g}"
