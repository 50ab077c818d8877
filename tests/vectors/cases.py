"""The test vectors' bundles: which there are, and the tables that they are exported from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import cycle, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.models.encoder import Encoder, LeastSquaresEncoder, LinearEncoder
from edgerec.models.scorer import NeuMFScorer
from edgerec.tables import PrefixTable, SparseTable, Table
from edgerec_export import ExportRequest, Source, from_arrays
from edgerec_export.layouts import LAYOUTS
from edgerec_export.layouts.variants import GROUP_ROWS
from edgerec_export.onnx.decode import ROWS_A_STEP

N_ITEMS, N_USERS, D = 60, 40, 8
ALIKE = (10, 11, 12)
"""Rows with equal values: their order in an answer is open."""
ZERO = 5
"""A row of zeros, of both tables: for this user the inner product with every item is 0."""
ONCE = ("fp32", "fp16", "int8", "int4")
"""Precisions of bundles of version 1."""
ODD_NAMES = ["é", "日本", "\uff5e", "😀", "A", "a", "a b", 'q"uote', "comma,"]
"""Ids whose order in UTF-16 is not that in UTF-8, and such as need care in JSON."""


@dataclass(frozen=True)
class Case:
    """One bundle.

    Attributes:
        subject: whom it is asked for: 'users', 'ncf' (users too, and a network makes the scores), or the encoder that
            makes them of histories: 'linear', 'ials', or 'mean', of item vectors alone, which takes apps' vectors too.
        ids: 'int', 'str', or 'near': whole numbers near each other.
        counts: it knows the popular items.
        signed: by the trusted key.
        group_rows: rows of a run at least; a real bundle has 32,768 or more.
        rows_a_step: rows that a loop decodes at once; in a real bundle 4,096.
        version: of the bundle format.
        wrong: it is asked with what is no id and no vector, which every runtime refuses.
        lists: it is asked for popular items, for similar ones of a list, and with unknown ids that are skipped.
    """

    name: str
    options: ExportRequest
    subject: str = "users"
    ids: str = "int"
    n_items: int = N_ITEMS
    counts: bool = True
    signed: bool = False
    group_rows: int = GROUP_ROWS
    rows_a_step: int = ROWS_A_STEP
    wrong: bool = False
    version: str = "1.0"
    lists: bool = False

    @property
    def has_users(self) -> bool:
        """Users are rows of a table."""
        return self.subject in ("users", "ncf")


def cases() -> Iterator[Case]:
    """Every layout in every precision with users and without, and what else a reader has to know."""
    for row, layout in enumerate(LAYOUTS):
        for column, precision in enumerate(ONCE):
            options = ExportRequest(layout, precision, similar=True)
            even = (row + column) % 2 == 0
            yield Case(f"{layout}-{precision}-users", options, ids="str" if even else "int")
            subject = "ials" if even else "linear"
            yield Case(f"{layout}-{precision}-{subject}", options, subject, "int" if even else "str")
    plain = ExportRequest("mixed", "fp32", similar=False)
    yield Case("no-similar", plain)
    yield Case("no-popular", plain, "linear", counts=False)
    yield Case("titles", replace(plain, titles=True), ids="str")
    yield Case("signed", plain, signed=True)
    yield Case("no-ids", replace(plain, ids="none"), "linear")
    yield Case("lookup", ExportRequest("csc", "int8", lookup=True, similar=True))
    yield Case("row-scales-int8", ExportRequest("mixed", "int8", scales="row", similar=True))
    yield Case("row-scales-int4", ExportRequest("ell", "int4", scales="row", similar=True), "linear")
    # A large catalogue, here made small, is searched without reading all of it: an If for each run of blocks.
    yield Case("runs", ExportRequest("mixed", "fp32", similar=True), n_items=800, group_rows=64)
    yield Case("runs-ell", ExportRequest("ell", "fp16", similar=True), "linear", n_items=800, group_rows=64)
    # Above 4,096 items the best are found by chunks.
    yield Case("chunked", ExportRequest("mixed", "int8", ids="none", similar=True), n_items=5000)
    # A network sees some rows at a time, here in three rounds of a loop, the last one not full.
    for layout, precision in zip(LAYOUTS, cycle(ONCE), strict=False):
        yield Case(f"{layout}-{precision}-ncf", ExportRequest(layout, precision), "ncf", rows_a_step=25)
    whole = ExportRequest("dense", "fp32", similar=True)
    yield Case("wrong-numbers", whole, n_items=20, wrong=True)
    yield Case("wrong-texts", whole, "ials", "str", n_items=20, wrong=True)
    yield Case("bytes-int4", ExportRequest("mixed", "int4", scales="row", similar=True), "linear", version="2.0")
    yield Case("bytes-int8", ExportRequest("dense", "int8", scales="row", similar=True), version="2.0")
    yield Case("v2-numbers", ExportRequest("mixed", "int8", similar=True), version="2.0")
    yield Case("v2-texts", ExportRequest("dense", "fp32", similar=True), "ials", "str", version="2.0")
    yield Case("v2-hashes", ExportRequest("mixed", "fp32", ids="hash64", similar=True), "linear", "str", version="2.0")
    yield Case("v2-int2", ExportRequest("mixed", "int2", similar=True), "linear", version="2.0")
    yield Case("v2-int2-users", ExportRequest("dense", "int2", similar=True), version="2.0")
    many = ExportRequest("mixed", "int8", similar=False)
    yield Case("v2-near", many, "linear", "near", n_items=700, version="2.0")
    yield Case("v2-many-texts", many, "linear", "str", n_items=500, version="2.0")
    listed = ExportRequest("mixed", "int8", similar=True)
    yield Case("v2-lists-users", listed, n_items=300, version="2.0", lists=True)
    plain = replace(listed, precision="fp32")
    yield Case("v2-lists-linear", plain, "linear", "str", counts=False, version="2.0", lists=True)
    titled = replace(listed, layout="dense", titles=True)
    yield Case("v2-mean", titled, "mean", "str", version="2.0", lists=True)


def source_of(case: Case, rng: np.random.Generator) -> Source:
    """Its tables."""
    items, users = (_table(case.options.layout, n, rng) for n in (case.n_items, N_USERS))
    item_ids, user_ids = (_ids(case.ids, n, rng) for n in (case.n_items, N_USERS))
    titles = np.array([f"Title {n} é" if n % 3 else "" for n in range(case.n_items)])
    shared: dict[str, Any] = {"titles": titles, "about": {"data": "test vectors", "backbone": "random"}}
    counts = rng.integers(0, 20, case.n_items) if case.counts and (case.lists or not case.has_users) else None
    if case.has_users:
        scorer = _scorer(rng) if case.subject == "ncf" else None
        return Source(items, item_ids, users, user_ids, item_counts=counts, scorer=scorer, **shared)
    if case.subject == "mean":
        texts = {"item_ids": item_ids, "titles": titles, "about": shared["about"]}
        return from_arrays(items.rows(np.arange(case.n_items)), item_counts=counts, **texts)
    return Source(items, item_ids, encoder=_encoder(case, rng), item_counts=counts, **shared)


def _encoder(case: Case, rng: np.random.Generator) -> Encoder:
    if case.subject == "ials":
        return LeastSquaresEncoder(alpha=3.0, reg=2.0)
    weights = rng.uniform(0.2, 1, case.n_items).astype(np.float32)
    if case.options.precision in ("fp32", "int4"):
        return LinearEncoder(weights)
    return LinearEncoder(weights, 0.5, rng.standard_normal((D, D), dtype=np.float32))


def _scorer(rng: np.random.Generator) -> NeuMFScorer:
    """Three dimensions multiplied, five of each row for a perceptron of two hidden layers."""
    widths = [2 * (D - 3), 6, 4, 1]
    layers = [
        (rng.standard_normal(shape, np.float32), rng.standard_normal(shape[1], np.float32))
        for shape in pairwise(widths)
    ]
    return NeuMFScorer(rng.standard_normal(3, np.float32), tuple(layers))


def _table(layout: str, n: int, rng: np.random.Generator) -> Table:
    values = rng.standard_normal((n, D), dtype=np.float32)
    values[ZERO] = 0
    if layout in ("dense", "mixed"):
        sizes = rng.choice([2, 3, D], n, p=[0.5, 0.3, 0.2])
        values[list(ALIKE)], sizes[list(ALIKE)] = values[ALIKE[0]], sizes[ALIKE[0]]
        return PrefixTable.from_dense(values, sizes)
    mask = rng.random((n, D)) < rng.choice([0.2, 0.6], (n, 1))
    mask[:, 0] |= ~mask.any(1)
    values[list(ALIKE)], mask[list(ALIKE)] = values[ALIKE[0]], mask[ALIKE[0]]
    return SparseTable.from_dense(values, mask)


def _ids(kind: str, n: int, rng: np.random.Generator) -> NDArray[Any]:
    if kind == "str":
        names = [*ODD_NAMES, *(f"id-{n}" for n in range(n - len(ODD_NAMES)))]
        return np.array(names)[rng.permutation(n)]
    if kind == "near":
        return rng.permutation(n) * 2 - 300
    ids = rng.permutation(n) * 3 + 7
    ids[:2] = [-1, 1 << 40]  # whole numbers of any size
    return ids
