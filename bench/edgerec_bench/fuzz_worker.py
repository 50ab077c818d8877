"""Opens spoilt bundles and asks them everything, in a process that may die of it.

usage: python -m edgerec_bench.fuzz_worker SEED FIRST END STEP SCRATCH BUNDLE...

Writes a line before each mutant and one after it, as JSON.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from edgerec.errors import EdgeRecError
from edgerec.runtime import Recommender, metadata
from edgerec_bench.fuzz_mutants import mutant

MEMORY = 4 << 30
"""Bytes of address space, as small devices have them."""


def main(seed: int, first: int, end: int, step: int, scratch: Path, bundles: list[Path]) -> None:
    """Try the mutants first, first + step, ... below end."""
    with suppress(ImportError, ValueError):  # Windows; or less is allowed already
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    known = [answers(bundle) for bundle in bundles]
    for number in range(first, end, step):
        _tell({"begin": number})
        one = mutant(number, seed, bundles, scratch / "mutant.bundle")
        outcome: dict[str, Any] = {"end": number, "way": one.way, "rehashed": one.rehashed}
        try:
            found = answers(one.folder)
        except EdgeRecError as error:
            _tell({**outcome, "refused": type(error).__name__, "lines": str(error).count("\n") + 1})
        except BaseException as error:
            _tell({**outcome, "unnamed": f"{type(error).__name__}: {error}"[:300]})
        else:
            _tell({**outcome, "answers": "the same" if found == known[one.base] else "others"})


def answers(folder: Path) -> list[Any]:
    """All that a bundle can be asked, about its first items and users, as one comparable value.

    Raises EdgeRecError for what it refuses.
    """
    about = metadata(folder)
    with Recommender.load(folder) as model:
        items = model.item_ids(range(min(12, model.n_items)))
        if model.n_users:
            who: list[Any] = [{"user": user} for user in USERS]
        else:
            who = [{"history": []}, {"history": items[:1]}, {"history": items[3:9]}]
        told: list[Any] = [about.items, about.users, items, [model.title(item) for item in items]]
        for one in who:
            asked: list[dict[str, Any]] = [{}, {"exclude": items[:5]}, {"allow": items[2:8], "exclude": items[4:5]}]
            for limits in asked:
                best = model.recommend(**one, k=min(7, model.n_items), **limits)
                told.append([(item, repr(score)) for item, score in best])
            told.append(list(map(repr, model.score(**one, items=items).tolist())))
        if "similar" in about.graphs:
            told.append([(item, repr(score)) for item, score in model.similar(items[1], min(5, model.n_items))])
    return told


USERS = (7, 8, 19)
"""Of the bundles that are spoilt."""


def _tell(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _seed, _first, _end, _step, _scratch, *_bundles = sys.argv[1:]
    main(int(_seed), int(_first), int(_end), int(_step), Path(_scratch), list(map(Path, _bundles)))
