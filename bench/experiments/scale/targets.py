"""The targets of the comparison at scale, which its contenders meet or miss, and its file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgerec.budget import format_bytes
from edgerec.files import write_json
from edgerec_bench.result import Contender, ScaleResult

SHAPE = (1_000_000, 64)
FIXED_BYTES = 4_000_000
LOAD_MS = 50.0
CANDIDATES = 1000
SCORE_MS = {"mixed": 0.3}
OTHER_SCORE_MS = 0.9
GRAPH_BYTES = 15_000_000


@dataclass(frozen=True)
class Promise:
    """The targets of one contender.

    Attributes:
        faster: minimum speed relative to the plain dense export with default options.
        share: maximum share of the dense fp32 tables, in bytes without ids and norms.
        bundles, per_item: peak memory is at most `bundles` times the bundle, plus `per_item` bytes per item, plus 4 MB.
    """

    faster: float
    share: float
    bundles: int
    per_item: int

    def peak(self, one: Contender, items: int) -> int:
        """Return the maximum peak memory above a bare session, in bytes, with one graph open."""
        return self.bundles * one.nbytes + self.per_item * items + FIXED_BYTES


PROMISES = {
    "EdgeRec mixed fp32": Promise(12, 0.104, 1, 10),
    "EdgeRec mixed int8": Promise(18, 0.028, 1, 14),
    "EdgeRec ell int8": Promise(1.8, 0.06, 3, 10),
    "EdgeRec csc int8": Promise(5, 0.08, 2, 10),
}


@dataclass(frozen=True)
class Target:
    """One figure of a contender with its bound.

    Attributes:
        figure: name of the figure.
        got, bound: measured value and bound, in milliseconds, bytes, ratios or shares.
        met: True if the value is within the bound.
        shown: value and bound as text.
    """

    contender: str
    figure: str
    got: float
    bound: float
    met: bool
    shown: str

    @property
    def text(self) -> str:
        """One line: contender, figure, value and bound."""
        return f"{self.contender}: {self.figure} {self.shown}"

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        return asdict(self)


def targets(result: ScaleResult) -> list[Target]:
    """Return the targets that the result has figures for; none for other numbers of items or dimensions."""
    if (result.items, result.dimensions) != SHAPE:
        return []
    return [target for one in result.contenders if one.kind == "bundle" for target in _of(result, one)]


def _of(result: ScaleResult, one: Contender) -> Iterator[Target]:
    promise = PROMISES.get(one.name)
    if promise:
        times = result.faster(one)
        shown = f"{times:.1f}, at least {promise.faster:g}"
        yield Target(one.name, "times faster", times, promise.faster, times >= promise.faster, shown)
        share = result.share(one)
        shown = f"{share:.2%}, at most {promise.share:.1%}"
        yield Target(one.name, "bytes of dense", share, promise.share, share <= promise.share, shown)
        if one.peak is not None:
            yield _bytes(one, "peak memory", one.peak, promise.peak(one, result.items))
        if one.measured.load_ms is not None:
            yield _at_most(one, "load", one.measured.load_ms, LOAD_MS)
    score = one.score_ms(CANDIDATES)
    if score is not None:
        layout = one.name.split()[1]
        yield _at_most(one, f"score of {CANDIDATES} candidates", score, SCORE_MS.get(layout, OTHER_SCORE_MS))
    if one.a_graph is not None:
        yield _bytes(one, "one more graph", one.a_graph, GRAPH_BYTES)


def _at_most(one: Contender, figure: str, got: float, bound: float) -> Target:
    return Target(one.name, figure, got, bound, got <= bound, f"{got:.2f} ms, at most {bound:g}")


def _bytes(one: Contender, figure: str, got: float, bound: float) -> Target:
    return Target(one.name, figure, got, bound, got <= bound, f"{format_bytes(got)}, at most {format_bytes(bound)}")


def bound_of(result: ScaleResult, one: Contender) -> str:
    """Return the maximum peak memory of a contender as text; empty if it has none."""
    promise = PROMISES.get(one.name)
    return format_bytes(promise.peak(one, result.items)) if promise else ""


def write_with_targets(path: Path, results: Sequence[ScaleResult]) -> None:
    """Write results as `write_results` does, with the targets for readers of the file. Raises StorageError."""
    listed = [{**one.to_json(), "targets": [target.to_json() for target in targets(one)]} for one in results]
    write_json(path, listed[0] if len(listed) == 1 else listed)
