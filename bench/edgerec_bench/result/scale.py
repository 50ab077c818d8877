"""The result of the comparison at scale, contenders for the same work; its tables, notes and warnings as text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any

from edgerec.budget import format_bytes
from edgerec.json_records import checked
from edgerec_bench.result.figures import CONTESTED, UNSTEADY, Measured
from edgerec_bench.result.side_by_side import milliseconds

FORMAT, VERSION = "edgerec.scale", 2


@dataclass(frozen=True)
class Contender:
    """The measurement of one contender.

    Attributes:
        name: displayed name.
        kind: 'plain', 'bundle' or 'peer'.
        tables: name of its tables.
        nbytes: bytes of all its files.
        excluded_nbytes: bytes of ids and norms among them, which plain tables do not have; 'apart' on disk.
        same_top: share of its answers that are among numpy's exact best; ties count.
        pss: proportional memory in bytes with one, two, ... of its graphs open in one process, by the last opened;
            empty for other kinds, or without /proc.
        built_with: 'version' and settings, such as 'ef', of another library; 'made_with' on disk.
    """

    name: str
    kind: str
    tables: str
    nbytes: int
    excluded_nbytes: int
    same_top: float
    measured: Measured
    pss: dict[str, int]
    built_with: dict[str, Any] = field(default_factory=dict)

    @property
    def peak(self) -> float | None:
        """Peak resident memory above a bare session, in bytes; None if it cannot be read."""
        return self.measured.above_bare("VmHWM")

    @property
    def a_graph(self) -> int | None:
        """The largest memory, in bytes, that one more graph took; None if not measured."""
        return max((after - before for before, after in pairwise(self.pss.values())), default=None)

    def score_ms(self, candidates: int) -> float | None:
        """Return the median milliseconds of the score graph; None if there is none."""
        name = f"score {candidates}"
        return self.measured.latency(name) if name in self.measured.scenarios else None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a result on disk has them."""
        plain = {name: getattr(self, name) for name in ("name", "kind", "tables", "nbytes")}
        figures = {"apart": self.excluded_nbytes, "same_top": self.same_top, "pss": self.pss}
        more = {"made_with": self.built_with} if self.built_with else {}
        return {**plain, **figures, **more, **self.measured.to_json()}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Contender:
        """Parse the fields. Raises KeyError, TypeError or ValueError if one is missing or of another type."""
        return cls(
            checked(str, fields["name"], "name"),
            checked(str, fields["kind"], "kind"),
            checked(str, fields["tables"], "tables"),
            checked(int, fields["nbytes"], "nbytes"),
            checked(int, fields["apart"], "apart"),
            checked(float, fields["same_top"], "same_top"),
            Measured.from_json(fields),
            checked(dict[str, int], fields["pss"], "pss"),
            checked(dict[str, Any], fields.get("made_with", {}), "made_with"),
        )


@dataclass(frozen=True)
class ScaleResult:
    """The whole comparison.

    Attributes:
        items, dimensions, users: sizes of the tables.
        densities: density of the item tables by name; 'kept' on disk.
        settings: rounds, calls, seconds, k, exclude, threads, seed.
        device: facts of the machine.
        contenders: measurements, with the baseline of all ratios first.
        left_out: name and reason of contenders that were not measured.
    """

    items: int
    dimensions: int
    users: int
    densities: dict[str, float]
    settings: dict[str, Any]
    device: dict[str, Any]
    contenders: tuple[Contender, ...]
    left_out: tuple[tuple[str, str], ...]
    started: str
    finished: str
    command: str

    @property
    def dense_nbytes(self) -> int:
        """Bytes of both tables in dense fp32."""
        return 4 * self.dimensions * (self.items + self.users)

    def share(self, contender: Contender) -> float:
        """Return its bytes without ids and norms as a share of the dense fp32 tables."""
        return (contender.nbytes - contender.excluded_nbytes) / self.dense_nbytes

    def ratios(self, contender: Contender) -> list[float]:
        """Return the speed relative to the baseline for each round, by median latencies."""
        both = zip(self.contenders[0].measured.each(), contender.measured.each(), strict=True)
        return [baseline / own for baseline, own in both]

    def faster(self, contender: Contender) -> float:
        """Return the speed relative to the baseline, the median over the rounds."""
        return median(self.ratios(contender))

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a result on disk has them; ratios and shares are for its readers and never parsed."""
        plain = {name: getattr(self, name) for name in ("items", "dimensions", "users")}
        facts = {"kept": self.densities, "settings": self.settings, "device": self.device}
        times = {name: getattr(self, name) for name in ("started", "finished", "command")}
        listed = [
            {**one.to_json(), "times_faster": self.faster(one), "share_of_dense": self.share(one)}
            for one in self.contenders
        ]
        return {
            "format": FORMAT,
            "version": VERSION,
            **plain,
            **facts,
            "contenders": listed,
            "left_out": [list(pair) for pair in self.left_out],
            **times,
        }

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> ScaleResult:
        """Parse the fields. Raises KeyError, TypeError or ValueError if one is missing or of another type."""
        if fields["version"] != VERSION:
            raise ValueError(f"version {fields['version']} is no longer read")
        contenders = tuple(Contender.from_json(entry) for entry in fields["contenders"])
        if not contenders:
            raise ValueError("no contender")
        return cls(
            checked(int, fields["items"], "items"),
            checked(int, fields["dimensions"], "dimensions"),
            checked(int, fields["users"], "users"),
            checked(dict[str, float], fields["kept"], "kept"),
            checked(dict[str, Any], fields["settings"], "settings"),
            checked(dict[str, Any], fields["device"], "device"),
            contenders,
            checked(tuple[tuple[str, str], ...], fields["left_out"], "left_out"),
            str(fields["started"]),
            str(fields["finished"]),
            str(fields["command"]),
        )


_CELLS: dict[str, Callable[[ScaleResult, Contender], str]] = {
    "": lambda result, one: one.name,
    "p50 ms": lambda result, one: f"{one.measured.latency():.2f}",
    "ms a call": lambda result, one: milliseconds(one.measured.latency()),
    "times faster": lambda result, one: short_ratio(result.faster(one)),
    "by round": lambda result, one: f"{short_ratio(min(result.ratios(one)))} to {short_ratio(max(result.ratios(one)))}",
    "score 1": lambda result, one: short_ms(one.score_ms(1)),
    "score 50": lambda result, one: short_ms(one.score_ms(50)),
    "score 1000": lambda result, one: short_ms(one.score_ms(1000)),
    "load ms": lambda result, one: _once(one.measured.load_ms),
    "verify ms": lambda result, one: _once(one.measured.verify_ms),
    "bytes": lambda result, one: format_bytes(one.nbytes),
    "of dense": lambda result, one: f"{result.share(one):.1%}",
    "peak memory": lambda result, one: _bytes(one.peak),
    "a graph more": lambda result, one: _bytes(one.a_graph),
    "same top 20": lambda result, one: f"{one.same_top:.1%}",
    "built with": lambda result, one: ", ".join(
        str(value) if name in ("version", "tool") else f"{name} {value}" for name, value in one.built_with.items()
    ),
}
COLUMNS = tuple(name for name in _CELLS if name != "ms a call")
"""All columns with milliseconds to two decimals."""
SPEED = ("", "p50 ms", "times faster", "by round", "bytes", "of dense", "peak memory", "same top 20")
MORE = ("", "score 1", "score 50", "score 1000", "load ms", "verify ms", "a graph more", "built with")
"""The columns in two tables, for the report page and a terminal."""

NOTES = (
    "Milliseconds are medians over fresh processes. Times faster is the ratio of the first row's p50 to the "
    "contender's in the same round, the median over the rounds; the range over the rounds follows.",
    "Of dense: bytes, without raw ids and the norms of the 'similar' graph, as a share of both tables in fp32. "
    "Bundles and plain models contain the users, other libraries do not.",
    "Peak memory is VmHWM above a bare onnxruntime session with one graph open; for other libraries above a process "
    "that imported them. A graph more: the largest growth of proportional memory (Pss) from recommend to score to "
    "similar, each opened and called in one process.",
    "Bundles take k and exclude (20 random items per call) as inputs; plain models and other libraries exclude "
    "nothing, which favours them. Files are in the page cache.",
    "Score: milliseconds per call by number of candidates. csc is measured with 10 %-dense user vectors, ell with "
    "dense ones. Quantised and approximate contenders report the share of their answers that is among numpy's best 20.",
)


def heading(result: ScaleResult) -> str:
    """Describe the measurement in one line."""
    settings = result.settings
    densities = ", ".join(f"{share:.1%} of the values ({name})" for name, share in result.densities.items())
    return (
        f"{result.items:,} items x {result.dimensions}, {densities}, "
        f"{settings['threads']} thread, {settings['rounds']} fresh processes each"
    )


def scale_rows(result: ScaleResult, columns: Sequence[str] = COLUMNS) -> list[list[str]]:
    """Return a table row for each contender; contenders that were left out have only the reason."""
    rows = [[_CELLS[column](result, one) for column in columns] for one in result.contenders]
    return rows + [[name, reason, *[""] * (len(columns) - 2)] for name, reason in result.left_out]


def short_ms(value: float | None) -> str:
    """Format milliseconds, with three decimals below one; None as nothing."""
    return "" if value is None else f"{value:.3f}" if value < 1 else f"{value:.1f}"


def _once(ms: float | None) -> str:
    return "" if ms is None else f"{ms:.1f}"


def short_ratio(ratio: float) -> str:
    """Format a ratio with one decimal, or two digits if it is small."""
    return f"{ratio:.1f}" if ratio >= 0.95 else f"{ratio:.2g}"


def _bytes(count: float | None) -> str:
    return "" if count is None else format_bytes(count)


def scale_warnings(result: ScaleResult) -> list[str]:
    """Return a sentence for each reason to distrust the figures, with the command to run next."""
    again = f"measure again with --rounds {max(10, 2 * int(result.settings['rounds']))}"
    warnings = []
    taken = 1 - min(one.measured.latency("recommend", "cpu_share") for one in result.contenders)
    if taken > 1 - CONTESTED:
        warnings.append(f"other programs took up to {taken:.0%} of the processor; close them and {again}")
    for one in result.contenders:
        ratios = result.ratios(one)
        reasons = [f"fresh processes differ by {one.measured.spread():.0%}"] if one.measured.spread() > UNSTEADY else []
        if max(ratios) - min(ratios) > UNSTEADY * result.faster(one):
            reasons.append(f"rounds range from {short_ratio(min(ratios))} to {short_ratio(max(ratios))} times faster")
        if reasons:
            warnings.append(f"{one.name}: {', '.join(reasons)}; {again}")
    return warnings


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a table as Markdown."""
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])
