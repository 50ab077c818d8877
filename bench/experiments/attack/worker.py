"""Answer mutants with the Python runtime, a line for each, in a limited address space; the protocol is in runtimes.py.

usage: python worker.py MOST_BYTES
"""

from __future__ import annotations

import json
import resource
import sys
import traceback
from pathlib import Path
from typing import Any

from edgerec import Recommender
from edgerec.errors import EdgeRecError, RequestError


def raw(text: str) -> Any:
    return int(text[1:]) if text[0] == "i" else bytes.fromhex(text[1:]).decode()


def answer(bundle: str, patch: str, key: str, kind: str, names: str) -> str:
    """Load a bundle and ask it; where there is a patch, apply it first, to the bundle that is open."""
    ids = [raw(text) for text in names.split(",")]
    items = ids[1:]
    with Recommender.load(bundle, trusted=None if key == "-" else [key]) as model:
        if patch != "-":
            model.apply(Path(patch).read_bytes())
        who: dict[str, Any] = {"user": ids[0]} if kind == "user" else {"history": ids}
        said: list[Any] = [[list(one) for one in model.recommend(**who, k=3, exclude=items[:1])]]
        said += [model.score(**who, items=items).tolist(), model.title(items[0])]
        if patch == "-":
            for call in (
                lambda: [list(one) for one in model.similar(items[0], 2)],
                lambda: model.encode(items).tolist(),
            ):
                try:
                    said.append(call())
                except RequestError:  # a graph that the bundle has not
                    said.append(None)
        return json.dumps(said)


def main() -> None:
    most = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    print("ready", flush=True)
    for line in sys.stdin:
        number, *request = line.rstrip("\n").split("\t")
        try:
            said = ["answer", "", answer(*request)]
        except EdgeRecError as error:
            said = ["refused", type(error).__name__, str(error)]
        except BaseException as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            said = ["unnamed", type(error).__name__, f"{error} ({Path(last.filename).name}:{last.lineno})"]
        print(number, *map(json.dumps, said), sep="\t", flush=True)


if __name__ == "__main__":
    main()
