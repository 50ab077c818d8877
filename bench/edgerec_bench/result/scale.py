"""The result of the comparison at scale: contenders for the same work."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any

from edgerec.json_records import checked
from edgerec_bench.result.figures import Measured

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
