"""The rarity of JavaScript's `recommend`, by the graphs and by the kernel: answers are those of numpy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgerec.runtime import Recommender
from edgerec_devices.web import files as web_files
from tests.devices.javascript.test_javascript import LIBRARY, module_of
from tests.devices.javascript.test_kernel import LIBRARY as KERNEL
from tests.devices.kernel.test_rarity import HISTORY, best, bundle_of, changed, weights_of
from tests.devices.web import need
from tests.vectors.check import FOLDER

REFUSED = (
    "RequestError: this bundle does not say which items are rare: rarity needs one without users of svd, lae with the "
    "encoder 'sum', or a fitted linear encoder"
)
LIMITS: tuple[dict[str, list[int]], ...] = (
    {},
    {"exclude": [0, 5, 9]},
    {"allow": [8, 3, 2]},
    {"allow": [*range(0, 60, 2)]},
)


@pytest.fixture(params=["onnxruntime", "kernel"])
def module(request: pytest.FixtureRequest) -> Any:
    """Returns the JSON values that a module prints; `options` are for `load`."""
    need("node")
    head, library = "const options = {};\n", KERNEL
    if request.param == "onnxruntime":
        runtime = (web_files.installed() / "ort.node.min.mjs").as_uri()
        head, library = f"import * as runtime from {json.dumps(runtime)};\nconst options = {{ runtime }};\n", LIBRARY
    return lambda code: [json.loads(line) for line in module_of(library, head + code).splitlines()]


@pytest.mark.parametrize("name", ["bytes-int4", "mixed-fp32-linear", "vectors"])
def test_answers_are_those_of_numpy(module: Any, name: str, tmp_path: Path) -> None:
    folder = bundle_of(name, tmp_path)
    model, weights = Recommender.load(folder), weights_of(folder)
    ids = list(model.item_ids(np.arange(weights.size)))
    named = {"history": [ids[row] for row in HISTORY]}
    asked = [(rarity, k, limits) for rarity in (0.3, 2, -0.5, -2) for k in (1, 40) for limits in LIMITS]
    requests = [
        {**named, "k": k, "rarity": rarity, **{side: [ids[row] for row in rows] for side, rows in limits.items()}}
        for rarity, k, limits in asked
    ]
    plain, *answers = module(
        f"const model = await edgerec.load({json.dumps(str(folder))}, options);\n"
        f"tell([...await model.score({{ ...{json.dumps(named)}, items: model.items() }})]);\n"
        f"for (const one of {json.dumps(requests)}) tell(await model.recommend(one));\n"
    )
    for (rarity, k, limits), answer in zip(asked, answers, strict=True):
        scores = changed(np.array(plain, np.float32), weights, rarity)
        wanted = best(scores, k, HISTORY + limits.get("exclude", []), limits.get("allow"))
        assert [one["item"] for one in answer] == [ids[row] for row in wanted]
        assert np.allclose([one["score"] for one in answer], scores[wanted], rtol=1e-5, atol=0)


def test_vectors_sessions_and_empty_histories(module: Any, tmp_path: Path) -> None:
    folder = bundle_of("vectors", tmp_path)
    vector = np.linspace(-1, 1, 16, dtype=np.float32)
    model = Recommender.load(folder)
    ids = model.item_ids(np.arange(300))
    plain = model.score(vector=vector, items=ids)
    of_vector, in_session, alone, empty, popular, none = module(
        f"const model = await edgerec.load({json.dumps(str(folder))}, options);\n"
        f"tell(await model.recommend({{ vector: {vector.tolist()}, k: 9, rarity: 1.5 }}));\n"
        f"const history = {HISTORY}; const session = await model.session();\n"
        "for (const one of history) await session.add(one);\n"
        "tell(await session.recommend({ k: 9, rarity: -1 }));\n"
        "tell(await model.recommend({ history, k: 9, rarity: -1 }));\n"
        "tell(await model.recommend({ history: [], k: 9, rarity: -1 })); tell(await model.popular(9));\n"
        "tell(await fails(model.recommend({ history: [], rarity: 3 })));\n"
    )
    wanted = best(changed(plain, weights_of(folder), 1.5), 9, [])
    assert [one["item"] for one in of_vector] == [ids[row] for row in wanted]
    assert in_session == alone
    assert empty == popular
    assert none == "RequestError: rarity must be a number in -2..2, got 3"


def test_what_is_no_rarity_is_refused(module: Any) -> None:
    values = ("2.001", "-3", "NaN", "Infinity", "'1'", "true", "null")
    printed = module(
        "const model = await edgerec.load(`${vectors}/bytes-int4`, options);\n"
        "const history = model.items().slice(0, 2);\n"
        f"for (const rarity of [{', '.join(values)}]) tell(await fails(model.recommend({{ history, rarity }})));\n"
        "for (const rarity of [2, -2, 0, undefined]) tell(await fails(model.recommend({ history, rarity })));\n"
    )
    wanted = [f"RequestError: rarity must be a number in -2..2, got {value.strip(chr(39))}" for value in values]
    assert printed == [*wanted, *["no error"] * 4]


@pytest.mark.parametrize("name", ["v2-mean", "csr-fp32-ials", "v2-lists-users"])
def test_bundles_without_different_weights_are_refused(module: Any, name: str) -> None:
    asked = json.loads((FOLDER / "requests" / f"{name}.json").read_text(encoding="utf-8"))["requests"]
    subject = next(
        {key: one[key]} for one in asked for key in ("user", "history") if one.get(key) and "error" not in one
    )
    printed = module(
        f"const model = await edgerec.load(`${{vectors}}/{name}`, options);\n"
        f"for (const rarity of [0, 1]) tell(await fails(model.recommend({{ ...{json.dumps(subject)}, rarity }})));\n"
    )
    assert printed == ["no error", REFUSED]
