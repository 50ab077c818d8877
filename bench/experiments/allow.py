"""Three implementations of allow-lists, compared at a million items.

usage: python -m bench.experiments.allow [--items 1000000] [--rounds 30] [--out result.json]

The first scores the listed items with the `score` graph, in blocks; the second excludes the rest of the catalogue in
the `recommend` graph; the third is a `recommend` graph with an input for the list. All are interleaved in one process
with one thread, for one user, k = 20 and 20 random excluded items, and must return the same items. `Recommender` uses
the first up to n_items / d items, then the second; the third would need another graph in every bundle.
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

from bench.experiments.harness import Figures, experiment, time_interleaved
from bench.experiments.scale.tables import mixed_items
from edgerec.console import print_table
from edgerec.errors import BenchError
from edgerec.runtime import Recommender
from edgerec.runtime.bundle import onnxruntime
from edgerec.runtime.ranking import VALUES_AT_ONCE, best_of, complement
from edgerec.tables import SparseTable
from edgerec_bench.calibrate import dense_users
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
    """Return a row for each bundle, length and implementation: median and least milliseconds.

    Raises BenchError if the implementations return different items.
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
                times = time_interleaved(_ways(model, session, allowed, rng.integers(0, items, (1, EXCLUDED))), rounds)
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
    session_options = ort.SessionOptions()
    session_options.intra_op_num_threads = session_options.inter_op_num_threads = 1
    session_options.enable_mem_pattern = False
    for key, value in model.manifest.session.items():
        session_options.add_session_config_entry(key, value)
    return model, ort.InferenceSession(str(path), session_options, providers=["CPUExecutionProvider"])


def _ways(
    model: Recommender, session: Any, allowed: NDArray[np.int64], excluded: NDArray[np.int64]
) -> list[Callable[[], Answer]]:
    user = {"user": np.array([7])}
    feed = {**user, "exclude": excluded, "allow": allowed, "k": np.array(K)}
    at_once = VALUES_AT_ONCE // DIMENSIONS
    ways: list[Callable[[], Answer]] = [
        lambda: model.recommend_rows(user, excluded, K),
        lambda: best_of(partial(model.score_rows, user), allowed, excluded, K, at_once),
        lambda: model.recommend_rows(user, complement(allowed, excluded, model.n_items), K),
        lambda: tuple(session.run(["items", "scores"], feed)),
    ]
    scores = [way()[1] for way in ways[1:]]
    if not all(np.allclose(scores[0], other, rtol=1e-4, atol=1e-4) for other in scores[1:]):
        raise BenchError("the implementations return different items, so their times mean nothing; please report this")
    return ways


def allow_graph(model: Model) -> Graph:
    """Build the recommend graph with an input of the allowed items, for a model with users.

    Bundles do not have it, because its input is required even if every item is allowed.

    inputs   user int64 [B]; exclude int64 [B, E] padded with -1; allow int64 [B, A]; k int64 scalar
    outputs  items int64 [B, k], scores float32 [B, k]; item -1 and score -inf where fewer are left

    numpy: s = U[user] @ V.T; t = full(-inf); t[b, allow[b]] = s[b, allow[b]]; t[b, exclude[b]] = -inf; then as
    `recommend_graph`
    """
    if model.users is None:
        raise ValueError("the allow graph needs a model with users")
    g, n = Graph("allow"), model.n_items
    user_rows = g.input("user", "int64", ["B"])
    g.depend_on(user_rows)
    user = model.users.add_rows(g, user_rows)
    exclude = g.input("exclude", "int64", ["B", "E"])
    allow = g.input("allow", "int64", ["B", "A"])
    k = g.input("k", "int64", [])
    pieces, dtype = model.items.add_scores(g, user), model.items.plan.sums_type
    scores = joined(g, pieces)
    shape = g.op("Concat", g.op("Shape", user.values, start=0, end=1), g.ints(n + tail_slots(n)), axis=0)
    nothing = g.shaped(g.op("Expand", g.constant(NOTHING[dtype], dtype), shape), dtype, ["B", n + tail_slots(n)])
    allowed = g.op("ScatterElements", nothing, allow, g.op("GatherElements", scores, allow, axis=1), axis=1)
    allowed = g.shaped(allowed, dtype, ["B", n + tail_slots(n)])
    best, items = add_answer(g, add_best(g, allowed, exclude, k, range(n), n, dtype), dtype)
    g.output(items, "items", "int64", ["B", "K"])
    g.output(model.items.add_scale(g, best, user), "scores", "float32", ["B", "K"])
    return g


@experiment("allow")
@click.option("--items", default=1_000_000, show_default=True, help="Number of items.")
@click.option("--rounds", default=30, show_default=True, help="Calls of each implementation.")
def main(items: int, rounds: int) -> Figures:
    """Time three implementations of allow-lists, interleaved."""
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
