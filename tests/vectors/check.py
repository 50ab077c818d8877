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

from edgerec.errors import BundleError, EdgeRecError, RequestError, SignatureError
from edgerec.runtime import Recommendation, Recommender

FOLDER = Path(__file__).parent
ERRORS: dict[str, type[EdgeRecError]] = {
    "request": RequestError,
    "bundle": BundleError,
    "signature": SignatureError,
}
LISTS = ("exclude", "allow", "on_unknown")
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
    return _pairs(model.recommend(**_given(request, "user", "history", "vector", "k", "rarity", *LISTS)))


def score(model: Recommender, request: Request) -> list[float]:
    """The scores."""
    values: list[float] = model.score(**_given(request, "user", "history", "vector", "items", "on_unknown")).tolist()
    return values


def similar(model: Recommender, request: Request) -> list[tuple[Any, float]]:
    """The ranking."""
    return _pairs(model.similar(**_given(request, "item", "k", *LISTS)))


def popular(model: Recommender, request: Request) -> list[tuple[Any, float]]:
    """The ranking."""
    return _pairs(model.popular(**_given(request, "k", *LISTS)))


def encode(model: Recommender, request: Request) -> list[float]:
    """The vector."""
    vector: list[float] = model.encode(**_given(request, "history", "on_unknown")).tolist()
    return vector


def _given(request: Request, *names: str) -> dict[str, Any]:
    return {name: request[name] for name in names if name in request}


def _pairs(answers: list[Recommendation]) -> list[tuple[Any, float]]:
    return [(one.item, one.score) for one in answers]


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
    "popular": popular,
    "encode": encode,
    "title": title,
}
COMPARE: dict[str, Callable[[Any, Request], str | None]] = {
    "recommend": ranking_failure,
    "similar": ranking_failure,
    "popular": ranking_failure,
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
