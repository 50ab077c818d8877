"""CIESS from the search, or one that was made before, to the fit of its best sizes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgerec.files import check_folder
from edgerec.methods.base import Job
from edgerec.methods.ciess import EVEN, RETRAIN, CIESSConfig, Protocol, epochs_of, kept_at, key_of
from edgerec.methods.search.environment import Environment, Rules
from edgerec.methods.search.explore import Explorer, Search, entry_of
from edgerec.methods.search.history import SearchHistory
from edgerec.methods.search.judge import Judge
from edgerec.methods.search.retrain import retrained
from edgerec.methods.search.shortlist import Candidate, allowed, candidates
from edgerec.methods.search.visits import Visits
from edgerec.training import FitResult, Step

_CHECKPOINT = 1
"""The number of the search's own checkpoint, beside that of the full model."""

Ranked = tuple[float, dict[str, Any], Candidate]
"""The score, the entry in the history, and the sizes."""


def searched(job: Job, config: CIESSConfig, search: Search, protocol: Protocol) -> tuple[str, FitResult]:
    """The origin of the sizes that are best on validation, and the fit within them. Raises as `CIESS.fit` does."""
    history = _Told(job, search.visits, protocol.ranked_by)
    even = protocol.even if config.even is None else config.even
    kinds = config.kinds() or (*protocol.origins, *([EVEN] if even else []))
    origins = tuple(kind for kind in kinds if kind != EVEN)
    if not origins:
        return EVEN, retrained(job, [], history.file, even=True)
    with Judge(job, "fresh", oracle=config.oracle, epochs=epochs_of(job, config)) as judge:
        visits = _visits(job, config, search, judge, history)
        scores = np.array([entry[protocol.ranked_by] for entry in visits.entries])
        wanted = candidates(job, visits, scores, origins, config.finals)
        ranked = _ranked(job, search, visits, wanted, judge, history, protocol.ranked_by)
    best = ranked[: config.retrain or RETRAIN]
    result = retrained(job, [(entry, candidate.plan) for _, entry, candidate in best], history.file, even=EVEN in kinds)
    return next((candidate.origin for _, _, candidate in best if candidate.plan is result.sizes), EVEN), result


class _Told:
    """Tells the history's file and whoever watches of each entry once, also where the search goes on after a kill."""

    def __init__(self, job: Job, visits: int, ranked_by: str) -> None:
        self.file = SearchHistory(job.checkpoint.folder if job.checkpoint else None)
        self._job, self._total, self._ranked_by, self._best = job, visits, ranked_by, 0.0
        self._within = allowed(job)[0] / (job.n_rows * job.d)

    def more(self, count: int) -> None:
        """There are so many more entries to come."""
        self._total += count

    def add(self, entry: dict[str, Any]) -> None:
        number, value = int(entry["iteration"]), float(entry[self._ranked_by])
        within = entry["density"] <= self._within + 1e-12
        if within:
            self._best = max(self._best, value)
        if number >= len(self.file.judged):
            self.file.add({**entry, "within": within})
        values = {self._ranked_by: value, "best": self._best, "kept": entry["density"]}
        self._job.progress(Step("search", 1, 1, number + 1, self._total, values))


def _visits(job: Job, config: CIESSConfig, search: Search, judge: Judge, history: _Told) -> Visits:
    """Those of the search, which is made where it is not kept."""
    key = key_of(job, config, search)
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    path = kept_at(job, config, name)
    if config.search is not None and path is not None and path.exists():
        visits = Visits.load(path, key)
        for entry in visits.entries:
            history.add(entry)
        return visits
    if config.search is not None:
        check_folder(Path(config.search))
    checkpoint = job.checkpoint.of_search().of_fit(_CHECKPOINT) if job.checkpoint else None
    visits = Explorer(job, judge, search, checkpoint).run(history.add)
    if path is not None:
        visits.save(path, key)
    return visits


def _ranked(
    job: Job,
    search: Search,
    visits: Visits,
    wanted: list[Candidate],
    judge: Judge,
    history: _Told,
    ranked_by: str,
) -> list[Ranked]:
    """The candidates by their score, the best of each origin before all others: what a short training, of another model
    perhaps, makes of sizes with noise and of smooth ones is not always what a full one does (ours). What was changed
    since it was judged is judged now."""
    rules = Rules(0.0, ratio=search.ratio, from_one=search.from_one)
    environment = Environment(job.split.train, visits.full, job.d, (rules, rules))
    found: list[Ranked] = [
        (known.score, visits.entries[known.visit], known) for known in wanted if known.score is not None
    ]
    changed = [candidate for candidate in wanted if candidate.score is None]
    history.more(len(changed))
    answers = judge.each([candidate.plan for candidate in changed])
    for number, (candidate, judged) in enumerate(zip(changed, answers, strict=True), len(visits)):
        quality = environment.mean_quality(environment.quality(judged.users))
        entry = entry_of(job, candidate.plan, judged, visits.full, quality)
        entry |= {"iteration": number, "strategy": candidate.origin, "visit": candidate.visit, "seconds": 0.0}
        history.add(entry)
        found.append((entry[ranked_by], entry, replace(candidate, score=entry[ranked_by])))
    ordered = _distinct(sorted(found, key=lambda one: -one[0]))
    first = {candidate.origin: place for place, (_, _, candidate) in reversed(list(enumerate(ordered)))}
    leading = sorted(first.values())
    return [ordered[place] for place in leading] + [one for place, one in enumerate(ordered) if place not in leading]


def _distinct(found: list[Ranked]) -> list[Ranked]:
    """One of each plan, the first."""
    seen: set[bytes] = set()
    kept = []
    for one in found:
        plan = one[2].plan
        sizes = np.concatenate([np.asarray(side) for side in (plan.users, plan.items)]).tobytes()
        if sizes not in seen:
            seen.add(sizes)
            kept.append(one)
    return kept
