"""Checks a runtime against the test vectors, and is the example for those in other languages.

usage: python check.py [NAME ...]

Needs what is checked, Python's runtime, and nothing else: numpy, onnxruntime, and `cryptography` for signed bundles.
Prints what is wrong, and ends with status 1 where something is.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgerec.errors import BundleError, EdgeRecError, RequestError, SignatureError
from edgerec.runtime import Recommender

FOLDER = Path(__file__).parent
ERRORS: dict[str, type[EdgeRecError]] = {
    "request": RequestError,
    "bundle": BundleError,
    "signature": SignatureError,
}
Request = dict[str, Any]


def names(folder: Path = FOLDER) -> list[str]:
    """The vectors that are there."""
    return sorted(path.stem for path in (folder / "requests").glob("*.json"))


def failures(name: str, folder: Path = FOLDER) -> list[str]:
    """What is wrong with the answers to the requests of one vector: a line for each."""
    content = json.loads((folder / "requests" / f"{name}.json").read_text(encoding="utf-8"))
    bundle = folder / content["bundle"]
    model = Recommender.load(bundle)
    found = []
    for request in content["requests"]:
        said = _failure(request, model, bundle, folder)
        if said is not None:
            found.append(f"{name}: {json.dumps(request, ensure_ascii=False)[:200]}: {said}")
    return found


def _failure(request: Request, model: Recommender, bundle: Path, folder: Path) -> str | None:
    call = request["call"]
    try:
        answer = load(request, bundle, folder) if call == "load" else ASK[call](model, request)
    except EdgeRecError as error:
        expected = ERRORS.get(request.get("error", ""))
        # A signature's error is a bundle's, but not the other way round.
        right = expected is not None and isinstance(error, expected)
        return None if right else f"{type(error).__name__}: {error}"
    if "error" in request:
        return f"answered {answer} where the error '{request['error']}' is expected"
    return None if call == "load" else COMPARE[call](answer, request)


def load(request: Request, bundle: Path, folder: Path) -> None:
    """Open a bundle, or a copy of it in which a byte was changed."""
    trusted = [folder / key for key in request["trusted"]] if "trusted" in request else None
    with tempfile.TemporaryDirectory() as scratch:
        if "flip" in request:
            place = Path(scratch, "bundle")
            shutil.copytree(bundle, place)
            (path,) = place.glob(request["flip"]["file"] + "*")
            content = bytearray(path.read_bytes())
            content[request["flip"]["byte"]] ^= 1
            path.write_bytes(content)
            bundle = place
        Recommender.load(bundle, trusted=trusted)


def recommend(model: Recommender, request: Request) -> list[tuple[Any, float]]:
    """The ranking."""
    exclude, allow, k = request.get("exclude", []), request.get("allow"), request["k"]
    if "vector" not in request:
        answers = model.recommend(request.get("user"), k, history=request.get("history"), exclude=exclude, allow=allow)
        return [(one.item, one.score) for one in answers]
    allowed = None if allow is None else model.item_rows(allow)[None]
    items, scores = model.recommend_rows(_vector(request), model.item_rows(exclude)[None], k, allow=allowed)
    left = items[0] >= 0
    return list(zip(model.item_ids(items[0][left]), scores[0][left].tolist(), strict=True))


def score(model: Recommender, request: Request) -> list[float]:
    """The scores."""
    if "vector" in request:
        scores = model.score_rows(_vector(request), model.item_rows(request["items"])[None])[0]
    else:
        scores = model.score(request.get("user"), request["items"], history=request.get("history"))
    values: list[float] = scores.tolist()
    return values


def _vector(request: Request) -> dict[str, Any]:
    with np.errstate(over="ignore"):  # to inf, which is refused
        return {"vector": np.array([request["vector"]], np.float32)}


def similar(model: Recommender, request: Request) -> list[tuple[Any, float]]:
    """The ranking."""
    return [(one.item, one.score) for one in model.similar(request["item"], request["k"])]


def encode(model: Recommender, request: Request) -> list[float]:
    """The vector."""
    vector: list[float] = model.encode(request["history"]).tolist()
    return vector


def title(model: Recommender, request: Request) -> str | None:
    """The title."""
    return model.title(request["item"])


def ranking_failure(answer: list[tuple[Any, float]], request: Request) -> str | None:
    """Group by group: the group's items in any order, each with its score; of the last group as many as fit into k."""
    left = list(answer)
    wanted = min(request["k"], sum(map(len, request["ranking"])))
    if len(left) != wanted:
        return f"{len(left)} items where {wanted} are expected"
    for group in request["ranking"]:
        expected = {(type(item), item): value for item, value in group}
        for item, value in left[: len(group)]:
            right = expected.pop((type(item), item), None)
            if right is None:
                return f"{item!r} is not among {group}, or repeated"
            if not abs(value - right) <= request["tolerance"]:
                return f"{item!r} scores {value}, expected {right} within {request['tolerance']}"
        left = left[len(group) :]
    return None


def values_failure(answer: list[float], request: Request) -> str | None:
    """Each number within the tolerance."""
    expected = request["scores" if request["call"] == "score" else "vector"]
    if len(answer) != len(expected):
        return f"{len(answer)} numbers where {len(expected)} are expected"
    close = [abs(got - right) <= request["tolerance"] for got, right in zip(answer, expected, strict=True)]
    return None if all(close) else f"{answer}, expected {expected} within {request['tolerance']}"


def title_failure(answer: str | None, request: Request) -> str | None:
    """The very text."""
    return None if answer == request["title"] else f"{answer!r}, expected {request['title']!r}"


ASK: dict[str, Callable[[Recommender, Request], Any]] = {
    "recommend": recommend,
    "score": score,
    "similar": similar,
    "encode": encode,
    "title": title,
}
COMPARE: dict[str, Callable[[Any, Request], str | None]] = {
    "recommend": ranking_failure,
    "similar": ranking_failure,
    "score": values_failure,
    "encode": values_failure,
    "title": title_failure,
}


def main(wanted: list[str]) -> int:
    """Check the vectors of these names, or all."""
    found = [line for name in wanted or names() for line in failures(name)]
    print("\n".join([*found, f"{len(wanted or names())} vectors, {len(found)} failures"]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
