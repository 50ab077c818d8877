"""A recommender under requests of many threads while patches arrive: no error, no leak, no answer of another version.

usage: python -m bench.experiments.patch_soak [--minutes 30] [--threads 8] [--every 3] [--out result.json]

Bundles of a line, each changed in a tenth of its rows from the one before, and a last patch that leads back to the
first. Every thread asks without pause for random known users: `recommend`, `score` or `similar`. An answer must be, to
the last id and score, that of a version which was live between the beginning of the request and its end. Memory is read
between patches; it is flat where the median of the last tenth is that of the second tenth.
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
"""Users whose answers are known, what they ask for, and the items that they have scored."""
KINDS = ("recommend", "score", "similar")
MEMORY = ("VmRSS", "RssAnon")


@dataclass
class Known:
    """What each version answers: by version, user and kind of question.

    Attributes:
        users: raw ids that every version knows.
        candidates: raw ids of items that every version knows.
        answers: (version, kind, number of the user) to the answer.
    """

    users: list[RawId]
    candidates: list[RawId]
    answers: dict[tuple[int, str, int], Any] = field(default_factory=dict)

    @classmethod
    def of(cls, models: list[Recommender], sources: list[Source], users: int) -> Known:
        """Ask each version everything once."""
        asked = np.asarray(sources[0].user_ids).tolist()
        common = sorted(set.intersection(*(set(source.item_ids.tolist()) for source in sources)))
        known = cls(_some(asked, users), _some(common, CANDIDATES))
        for version, model in enumerate(models):
            for kind in KINDS:
                for number in range(len(known.users)):
                    known.answers[version, kind, number] = known.ask(model, kind, number)
        return known

    def ask(self, model: Recommender, kind: str, number: int) -> Any:
        """The answer to a question, in a form that compares equal where it is the same to the bit."""
        if kind == "recommend":
            return model.recommend(self.users[number], K)
        if kind == "score":
            return model.score(self.users[number], self.candidates).tobytes()
        return model.similar(self.candidates[number % len(self.candidates)], K)


def _some(ids: list[RawId], count: int) -> list[RawId]:
    return ids[:: max(1, len(ids) // count)][:count]


@dataclass
class Soak:
    """A run of requests and patches.

    Attributes:
        begun, done: patches whose application has begun, and those after which `apply` has returned; the versions that
            are live are those from `done` to `begun`, modulo their number.
        counts: requests by kind.
        crossed: requests during which a patch came into effect.
        errors: what went wrong; empty where nothing did.
    """

    model: Recommender
    known: Known
    versions: int
    begun: int = 0
    done: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    crossed: int = 0
    errors: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, seed: int) -> None:
        """Requests of one thread, until told to stop or something is wrong."""
        rng, counts, crossed = np.random.default_rng(seed), Counter[str](), 0
        try:
            while not self.stop.is_set():
                kind, number = KINDS[int(rng.integers(3))], int(rng.integers(len(self.known.users)))
                before = self.done
                answer = self.known.ask(self.model, kind, number)
                after = self.begun
                live = {version % self.versions for version in range(before, after + 1)}
                if not any(self.known.answers[version, kind, number] == answer for version in live):
                    raise BenchError(f"a '{kind}' answer is of none of the versions that were live")
                counts[kind] += 1
                crossed += len(live) > 1
        except Exception as error:
            self.errors.append(repr(error))
            self.stop.set()
        with self.lock:
            self.counts += counts
            self.crossed += crossed

    def patch(self, patches: list[bytes], seconds: float, every: float) -> list[dict[str, float]]:
        """Apply the patches in turns, one every `every` seconds, for so long. Returns memory in KiB over time."""
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
    """Run it; figures of what was asked, patched and held in memory.

    Raises BenchError where a request failed or was answered by a version that was not live.
    """
    sources = list(islice(versions(items, users), line_of))
    line = export_line(iter(sources), folder, line_of, ExportRequest("mixed", "int8", verify=False))
    pairs = [*pairwise(line), (line[-1], line[0])]
    patches = [diff(old, new, folder / f"{number}.patch").path.read_bytes() for number, (old, new) in enumerate(pairs)]
    known = Known.of([Recommender.load(one) for one in line], sources, USERS)
    run = Soak(Recommender.load(line[0]), known, len(line))
    workers = [threading.Thread(target=run.ask, args=(seed,)) for seed in range(threads)]
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
    """Bytes at the beginning, after a tenth that warms up, and at the end; None where memory was not read."""
    tenth = len(kib) // 10
    if not tenth:
        return None
    begin, end = (1024 * median(part) for part in (kib[tenth : 2 * tenth], kib[-tenth:]))
    return {"begin_bytes": begin, "end_bytes": end, "most_bytes": 1024 * max(kib), "ratio": end / begin}


@experiment("patch-soak")
@click.option("--minutes", default=30.0, show_default=True)
@click.option("--threads", default=8, show_default=True)
@click.option("--every", default=3.0, show_default=True, help="Seconds between patches.")
@click.option("--items", default=20_000, show_default=True)
@click.option("--users", default=2_000, show_default=True)
def main(minutes: float, threads: int, every: float, items: int, users: int) -> Figures:
    """Ask, patch and compare."""
    with tempfile.TemporaryDirectory(prefix="edgerec-soak-") as scratch:
        found = soak(Path(scratch), seconds=60 * minutes, threads=threads, every=every, items=items, users=users)
    print_facts("", {**found["requests"], "while patched": found["while_patched"], "patches": found["patches"]})
    print_facts("memory", {name: f"{one['ratio']:.3f}" for name, one in found["memory"].items() if one})
    return found


if __name__ == "__main__":
    main()
