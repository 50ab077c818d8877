"""What the comparison at scale writes: contenders for the same work, measured in turns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgerec_bench.figures import Measured

FORMAT, VERSION = "edgerec.scale", 1

ANSWER_BYTES_PER_ITEM = 10
FIXED_BYTES = 4_000_000
FASTER = 10.0
LOAD_MS = 50.0


@dataclass(frozen=True)
class Contender:
    """One way to ship the same tables.

    Attributes:
        name: as it is shown.
        nbytes: of all its files.
        same_top: the share of its answers that are among numpy's exact best, ties apart.
        ours: whether it is a bundle, to which the bound on memory applies.
    """

    name: str
    nbytes: int
    same_top: float
    ours: bool
    measured: Measured

    @property
    def peak(self) -> float | None:
        """Bytes of peak resident memory above a bare session; None where it cannot be read."""
        return self.measured.above_bare("VmHWM")

    def bound(self, items: int) -> int:
        """Bytes that the peak may take: the bundle, 10 bytes an item for scores, 4 MB."""
        return self.nbytes + ANSWER_BYTES_PER_ITEM * items + FIXED_BYTES

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "nbytes": self.nbytes,
            "same_top": self.same_top,
            "ours": self.ours,
            **self.measured.to_json(),
        }

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Contender:
        return cls(
            str(fields["name"]),
            int(fields["nbytes"]),
            float(fields["same_top"]),
            bool(fields["ours"]),
            Measured.from_json(fields),
        )


@dataclass(frozen=True)
class ScaleResult:
    """The whole comparison.

    Attributes:
        items, dimensions, users: of the tables.
        kept: the share of the values that the mixed sizes keep.
        settings: rounds, calls, seconds, k, exclude, threads, seed.
        device: what the machine said of itself.
        contenders: the rival first: every ratio is to it.
    """

    items: int
    dimensions: int
    users: int
    kept: float
    settings: dict[str, Any]
    device: dict[str, Any]
    contenders: tuple[Contender, ...]
    started: str
    finished: str
    command: str

    @property
    def dense_nbytes(self) -> int:
        """Bytes of both tables in dense fp32."""
        return 4 * self.dimensions * (self.items + self.users)

    def faster(self, contender: Contender) -> float:
        """How many times faster than the rival, by the median."""
        return self.contenders[0].measured.latency() / contender.measured.latency()

    def to_json(self) -> dict[str, Any]:
        """As it is written."""
        plain = {name: getattr(self, name) for name in ("items", "dimensions", "users", "kept", "settings", "device")}
        made = {name: getattr(self, name) for name in ("started", "finished", "command")}
        listed = [
            {**one.to_json(), "times_faster": self.faster(one), "peak_bound": one.bound(self.items)}
            for one in self.contenders
        ]
        return {"format": FORMAT, "version": VERSION, **plain, "contenders": listed, **made}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> ScaleResult:
        """Raises KeyError, TypeError or ValueError where something is missing or of another type."""
        contenders = tuple(Contender.from_json(entry) for entry in fields["contenders"])
        if not contenders:
            raise ValueError("no contender")
        return cls(
            int(fields["items"]),
            int(fields["dimensions"]),
            int(fields["users"]),
            float(fields["kept"]),
            dict(fields["settings"]),
            dict(fields["device"]),
            contenders,
            str(fields["started"]),
            str(fields["finished"]),
            str(fields["command"]),
        )
