"""Soak test of patches: a recommender answers many threads while patches arrive, without errors, leaks, stale answers.

usage: python -m bench.experiments.patch_soak [--minutes 30] [--threads 8] [--every 3] [--out result.json]

Each bundle of a series differs from the one before in 10 % of its rows, and a last patch leads back to the first. Every
thread sends requests for random users without a pause: `recommend`, `score` or `similar`. An answer must equal, in all
ids and scores, that of a version that was live during the request. Memory is read between patches; it is flat if the
median of the last tenth of the readings equals that of the second tenth.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np

from bench.experiments.harness import Figures, experiment
from bench.experiments.patch_tables import export_line, versions
from edgerec.console import messages, print_facts
from edgerec.errors import BenchError
from edgerec.runtime import Recommender
from edgerec.runtime.ids import RawId
from edgerec.runtime.memory import memory_kib
from edgerec_export import ExportRequest, Source, diff

USERS, K, CANDIDATES = 200, 20, 50
"""Number of users with known answers, of items to recommend, and of items to score."""
KINDS = ("recommend", "score", "similar")
MEMORY = ("VmRSS", "RssAnon")


@dataclass
class KnownAnswers:
    """The expected answers of each version.

    Attributes:
        users: raw ids of users in every version.
        candidates: raw ids of items in every version.
        answers: answers by version, kind of request, and index of the user.
    """

    users: list[RawId]
    candidates: list[RawId]
    answers: dict[tuple[int, str, int], Any] = field(default_factory=dict)

    @classmethod
    def of(cls, models: list[Recommender], sources: list[Source], users: int) -> KnownAnswers:
        """Record the answers of each version to every request."""
        user_ids = np.asarray(sources[0].user_ids).tolist()
        common = sorted(set.intersection(*(set(source.item_ids.tolist()) for source in sources)))
        known = cls(_some(user_ids, users), _some(common, CANDIDATES))
        for version, model in enumerate(models):
            for kind in KINDS:
                for number in range(len(known.users)):
                    known.answers[version, kind, number] = known.query(model, kind, number)
        return known

    def query(self, model: Recommender, kind: str, number: int) -> Any:
        """Return the answer to a request, in a form that is equal only if all bits are."""
        if kind == "recommend":
            return model.recommend(self.users[number], K)
        if kind == "score":
            return model.score(self.users[number], self.candidates).tobytes()
        return model.similar(self.candidates[number % len(self.candidates)], K)


def _some(ids: list[RawId], count: int) -> list[RawId]:
    return ids[:: max(1, len(ids) // count)][:count]


@dataclass
class Soak:
    """The state of a soak test.

    Attributes:
        begun, done: numbers of patches whose application has begun, and has ended; the live versions are those from
            `done` to `begun`, modulo the number of versions.
        counts: requests by kind.
        crossed: number of requests during which a patch took effect.
        errors: errors of the threads.
    """

    model: Recommender
    known: KnownAnswers
    versions: int
    begun: int = 0
    done: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    crossed: int = 0
    errors: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def send_requests(self, seed: int) -> None:
        """Send requests in one thread until `stop` is set or an error occurs."""
        rng, counts, crossed = np.random.default_rng(seed), Counter[str](), 0
        try:
            while not self.stop.is_set():
                kind, number = KINDS[int(rng.integers(3))], int(rng.integers(len(self.known.users)))
                before = self.done
                answer = self.known.query(self.model, kind, number)
                after = self.begun
                live = {version % self.versions for version in range(before, after + 1)}
                if not any(self.known.answers[version, kind, number] == answer for version in live):
                    raise BenchError(f"a '{kind}' answer is of none of the live versions")
                counts[kind] += 1
                crossed += len(live) > 1
        except Exception as error:
            self.errors.append(repr(error))
            self.stop.set()
        with self.lock:
            self.counts += counts
            self.crossed += crossed

    def patch(self, patches: list[bytes], seconds: float, every: float) -> list[dict[str, float]]:
        """Apply the patches cyclically, one every `every` seconds, for `seconds`. Returns memory in KiB over time."""
        started, samples = time.monotonic(), []
        while (passed := time.monotonic() - started) < seconds and not self.stop.wait(every):
            self.begun += 1
            self.model.apply(patches[self.done % self.versions])
            self.done += 1
            now = memory_kib()
            samples.append({"s": round(passed + every, 1), **{name: now[name] for name in MEMORY if name in now}})
            if len(samples) % 100 == 0:
                messages.print(f"{passed / 60:.0f} minutes, {self.done} patches, {samples[-1]}")
        return samples


def soak(
    folder: Path, *, seconds: float, threads: int, every: float, items: int, users: int, line_of: int = 3
) -> dict[str, Any]:
    """Run a soak test; return the numbers of requests and patches, and the memory.

    Raises BenchError if a request failed or was answered by a version that was not live.
    """
    sources = list(islice(versions(items, users), line_of))
    line = export_line(iter(sources), folder, line_of, ExportRequest("mixed", "int8", verify=False))
    pairs = [*pairwise(line), (line[-1], line[0])]
    patches = [diff(old, new, folder / f"{number}.patch").path.read_bytes() for number, (old, new) in enumerate(pairs)]
    known = KnownAnswers.of([Recommender.load(one) for one in line], sources, USERS)
    run = Soak(Recommender.load(line[0]), known, len(line))
    workers = [threading.Thread(target=run.send_requests, args=(seed,)) for seed in range(threads)]
    for worker in workers:
        worker.start()
    try:
        samples = run.patch(patches, seconds, every)
    finally:
        run.stop.set()
        for worker in workers:
            worker.join()
    if run.errors:
        raise BenchError(f"after {run.done} patches: {run.errors[0]}; report this")
    return {
        "requests": dict(run.counts),
        "while_patched": run.crossed,
        "patches": run.done,
        "memory": {name: drift([sample[name] for sample in samples if name in sample]) for name in MEMORY},
        "samples": samples[:: max(1, len(samples) // 60)],
    }


def drift(kib: list[float]) -> dict[str, float] | None:
    """Return the memory in bytes after a warm-up of one tenth, and at the end; None if memory was not read."""
    tenth = len(kib) // 10
    if not tenth:
        return None
    begin, end = (1024 * median(part) for part in (kib[tenth : 2 * tenth], kib[-tenth:]))
    return {"begin_bytes": begin, "end_bytes": end, "most_bytes": 1024 * max(kib), "ratio": end / begin}


@experiment("patch-soak")
@click.option("--minutes", default=30.0, show_default=True, help="Duration in minutes.")
@click.option("--threads", default=8, show_default=True, help="Number of threads that send requests.")
@click.option("--every", default=3.0, show_default=True, help="Seconds between patches.")
@click.option("--items", default=20_000, show_default=True, help="Number of items.")
@click.option("--users", default=2_000, show_default=True, help="Number of users.")
def main(minutes: float, threads: int, every: float, items: int, users: int) -> Figures:
    """Send requests while patches arrive, and check every answer."""
    with tempfile.TemporaryDirectory(prefix="edgerec-soak-") as scratch:
        found = soak(Path(scratch), seconds=60 * minutes, threads=threads, every=every, items=items, users=users)
    print_facts("", {**found["requests"], "while patched": found["while_patched"], "patches": found["patches"]})
    print_facts("memory", {name: f"{one['ratio']:.3f}" for name, one in found["memory"].items() if one})
    return found


if __name__ == "__main__":
    main()
