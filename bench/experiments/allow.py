"""Three ways to answer from an allow-list at a million items.

usage: python -m bench.experiments.allow [--items 1000000] [--rounds 30] [--out result.json]

The list's items scored by the `score` graph, some at a time; the rest of the catalogue excluded from the `recommend`
graph; and a `recommend` graph with an input of its own for the list. All take turns in one process, one thread, one
user, k = 20, 20 random items excluded, and must return the same items. `Recommender` takes the first up to
n_items / d items, then the second; the third would be a graph more in every bundle.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from bench.experiments.harness import Figures, experiment, timed_in_turns
from edgerec.console import print_table
from edgerec.errors import BenchError
from edgerec.runtime import Recommender
from edgerec.runtime.bundle import onnxruntime
from edgerec.runtime.ranking import VALUES_AT_ONCE, best_of, the_rest
from edgerec.tables import SparseTable
from edgerec_bench.scale.tables import dense_users, mixed_items
from edgerec_export import ExportRequest, Source, export_request
from edgerec_export.onnx import Graph, Model, joined
from edgerec_export.onnx.topk import NOTHING, add_answer, add_best, tail_slots
from edgerec_export.pack import packed_in_memory

DIMENSIONS, USERS, K, EXCLUDED = 64, 1000, 20, 20
DENSITY = 0.1
LENGTHS = (100, 1_000, 3_000, 10_000, 30_000, 100_000)
FORMS = (("mixed", "fp32"), ("mixed", "int8"), ("ell", "int8"))
WAYS = ("no list", "list scored", "rest excluded", "input of the graph")
Answer = tuple[NDArray[np.int64], NDArray[np.float32]]


def measure(items: int, rounds: int) -> list[dict[str, Any]]:
    """One row a bundle, length and way: median and least milliseconds.

    Raises BenchError where the ways do not return the same items.
    """
    mixed, users = mixed_items(items, DIMENSIONS), dense_users(USERS, DIMENSIONS)
    rng = np.random.default_rng(0)
    values = rng.standard_normal((items, DIMENSIONS), np.float32)
    sparse = SparseTable.from_dense(values, rng.random(values.shape, np.float32) < DENSITY)
    del values
    rows = []
    for layout, precision in FORMS:
        table = sparse if layout == "ell" else mixed
        source = Source(table, np.arange(items), users, np.arange(USERS))
        with tempfile.TemporaryDirectory(prefix="edgerec-allow-") as scratch:
            model, session = _opened(source, ExportRequest(layout, precision, verify=False), Path(scratch, "bundle"))
            for length in (length for length in LENGTHS if length <= items):
                allowed = rng.permutation(items)[None, :length]
                times = timed_in_turns(_ways(model, session, allowed, rng.integers(0, items, (1, EXCLUDED))), rounds)
                row = {"layout": layout, "precision": precision, "length": length}
                rows += [
                    {**row, "way": way, "median_ms": median(taken), "least_ms": min(taken)}
                    for way, taken in zip(WAYS, times, strict=True)
                ]
    return rows


def _opened(source: Source, options: ExportRequest, folder: Path) -> tuple[Recommender, Any]:
    draft = export_request(source, folder, options).chosen.draft
    model = Recommender.load(folder, verify=False)
    packed = packed_in_memory(draft)
    scales = {name: table.scales for name, table in packed.tables.items()}
    graph = allow_graph(draft.model(scales, packed.top_inverse_norm))
    path = folder / "allow.onnx"
    path.write_bytes(graph.serialize(model.manifest.tables.name))
    ort = onnxruntime()
    wanted = ort.SessionOptions()
    wanted.intra_op_num_threads = wanted.inter_op_num_threads = 1
    wanted.enable_mem_pattern = False
    for key, value in model.manifest.session.items():
        wanted.add_session_config_entry(key, value)
    return model, ort.InferenceSession(str(path), wanted, providers=["CPUExecutionProvider"])


def _ways(
    model: Recommender, session: Any, allowed: NDArray[np.int64], gone: NDArray[np.int64]
) -> list[Callable[[], Answer]]:
    user = {"user": np.array([7])}
    feed = {**user, "exclude": gone, "allow": allowed, "k": np.array(K)}
    at_once = VALUES_AT_ONCE // DIMENSIONS
    ways: list[Callable[[], Answer]] = [
        lambda: model.recommend_rows(user, gone, K),
        lambda: best_of(partial(model.score_rows, user), allowed, gone, K, at_once),
        lambda: model.recommend_rows(user, the_rest(allowed, gone, model.n_items), K),
        lambda: tuple(session.run(["items", "scores"], feed)),
    ]
    scores = [way()[1] for way in ways[1:]]
    if not all(np.allclose(scores[0], other, rtol=1e-4, atol=1e-4) for other in scores[1:]):
        raise BenchError("the ways do not answer alike, so their times mean nothing; please report this")
    return ways


def allow_graph(model: Model) -> Graph:
    """Build the recommend graph with an input of the allowed items, for a model with users.

    No bundle has it: its input has to be given even where every item is allowed.

    inputs   user int64 [B]; exclude int64 [B, E] padded with -1; allow int64 [B, A]; k int64 scalar
    outputs  items int64 [B, k], scores float32 [B, k]; item -1 and score -inf where fewer are left

    numpy: s = U[user] @ V.T; t = full(-inf); t[b, allow[b]] = s[b, allow[b]]; t[b, exclude[b]] = -inf; then as
    `recommend_graph`
    """
    if model.users is None:
        raise ValueError("made for bundles with users")
    g, n = Graph("allow"), model.n_items
    asked = g.input("user", "int64", ["B"])
    g.depend_on(asked)
    user = model.users.add_rows(g, asked)
    exclude = g.input("exclude", "int64", ["B", "E"])
    allow = g.input("allow", "int64", ["B", "A"])
    k = g.input("k", "int64", [])
    pieces, dtype = model.items.add_scores(g, user), model.items.plan.sums_type
    scores = joined(g, pieces)
    shape = g.op("Concat", g.op("Shape", user.values, start=0, end=1), g.ints(n + tail_slots(n)), axis=0)
    nothing = g.shaped(g.op("Expand", g.constant(NOTHING[dtype], dtype), shape), dtype, ["B", n + tail_slots(n)])
    kept = g.op("ScatterElements", nothing, allow, g.op("GatherElements", scores, allow, axis=1), axis=1)
    kept = g.shaped(kept, dtype, ["B", n + tail_slots(n)])
    best, items = add_answer(g, add_best(g, kept, exclude, k, range(n), n, dtype), dtype)
    g.output(items, "items", "int64", ["B", "K"])
    g.output(model.items.add_scale(g, best, user), "scores", "float32", ["B", "K"])
    return g


@experiment("allow")
@click.option("--items", default=1_000_000, show_default=True)
@click.option("--rounds", default=30, show_default=True)
def main(items: int, rounds: int) -> Figures:
    """Time the ways in turns."""
    rows = measure(items, rounds)
    shown = [[*(row[name] for name in ("layout", "precision", "length", "way")), row["median_ms"]] for row in rows]
    least = [[*row, one["least_ms"]] for row, one in zip(shown, rows, strict=True)]
    print_table("allow-lists", ["layout", "precision", "length", "way", "median ms", "least ms"], least)
    return {
        "settings": {"items": items, "dimensions": DIMENSIONS, "k": K, "excluded": EXCLUDED, "threads": 1},
        "rows": rows,
    }


if __name__ == "__main__":
    main()
