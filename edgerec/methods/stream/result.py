"""The result of training on a stream: `stream.json`, written after each segment."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any, TypedDict, cast

from edgerec.errors import RunError
from edgerec.files import read_if_there, write_json
from edgerec.json_records import parse_json, record

FORMAT, VERSION = "edgerec.stream", 1
_STORED = {"capacity": "room", "n_trials": "tries"}
"""Names of fields in `stream.json` that differ from the class's."""
FILE_NAME = "stream.json"
METRICS = ("recall@20", "ndcg@20")
"""Metrics that a stream averages over its segments (SCALL)."""


@dataclass(frozen=True)
class SegmentResult:
    """The result of a segment.

    Attributes:
        number: number of the segment, from 0.
        run: folder of its run, next to `stream.json`.
        begins, ends: seconds of its first and last interaction.
        rows: numbers of known and of new rows: {'users', 'items', 'new_users', 'new_items'}.
        interactions: numbers of interactions: {'train', 'replay', 'test'}.
        capacity: number of values that the budget allows.
        values: number of values of the tables, at most `capacity`.
        table_bytes: bytes of the stored tables, sizes and float32 values.
        sizes: mean sizes of ten parts of the rows, as `size_deciles` returns them.
        metrics: metrics of the test part.
        chosen: the method's description of its plan.
        n_trials: number of trials on the previous segment.
    """

    number: int
    run: str
    begins: int
    ends: int
    rows: dict[str, int]
    interactions: dict[str, int]
    capacity: int
    values: int
    table_bytes: int
    sizes: dict[str, list[float]]
    metrics: dict[str, float]
    chosen: dict[str, Any]
    n_trials: int

    def __post_init__(self) -> None:
        """Raise ValueError if a required entry is missing."""
        parts = {
            "rows": ("users", "items", "new_users", "new_items"),
            "interactions": ("train", "replay", "test"),
            "sizes": ("users", "items"),
            "metrics": METRICS,
        }
        for part, names in parts.items():
            if missing := [name for name in names if name not in getattr(self, part)]:
                raise ValueError(f"the {part} of segment {self.number} have no {', '.join(missing)}")
        if not all(self.sizes.values()):
            raise ValueError(f"the sizes of segment {self.number} are empty")

    def to_json(self) -> dict[str, Any]:
        """Return the result as `stream.json` stores it."""
        return {_STORED.get(name, name): value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, fields: Any) -> SegmentResult:
        """Read the JSON of `to_json`. Raises ValueError."""
        names = {stored: name for name, stored in _STORED.items()}
        if isinstance(fields, dict):
            fields = {names.get(name, name): value for name, value in fields.items()}
        return record(cls, fields, "a segment")

    @property
    def mean_sizes(self) -> dict[str, float]:
        """Mean number of values of a user and of an item."""
        return {side: mean(parts) for side, parts in self.sizes.items()}


@dataclass(frozen=True)
class StreamResult:
    """The result of a stream, or of its finished segments: the content of `stream.json`.

    Attributes:
        command: everything that decides the result, as JSON.
        data_fingerprint: fingerprint of all interactions.
        of: number of segments.
        segments: results of the finished segments.
    """

    command: dict[str, Any]
    data_fingerprint: str
    of: int
    segments: list[SegmentResult] = field(default_factory=list)

    @property
    def done(self) -> bool:
        """True if all segments are finished."""
        return len(self.segments) == self.of

    def mean(self) -> dict[str, float]:
        """Return the mean METRICS of the segments after the first (SCALL); empty if there is none."""
        later = self.segments[1:]
        return {name: mean(segment.metrics[name] for segment in later) for name in METRICS} if later else {}

    def to_json(self) -> dict[str, Any]:
        segments = [segment.to_json() for segment in self.segments]
        about = {"format": FORMAT, "version": VERSION, "command": self.command}
        return {
            **about, "data_fingerprint": self.data_fingerprint, "of": self.of, "mean": self.mean(), "segments": segments
        }  # fmt: skip

    def save(self, folder: Path) -> None:
        """Write `stream.json`. Raises StorageError."""
        write_json(folder / FILE_NAME, self.to_json())

    @classmethod
    def load(cls, folder: Path) -> StreamResult:
        """Read `stream.json`. Raises RunError if it is missing or damaged; StorageError."""
        path = folder / FILE_NAME
        content = read_if_there(path)
        if content is None:
            raise RunError(f"{folder} holds no stream: there is no {FILE_NAME} in it; make one with 'edgerec stream'")
        try:
            file = record(_File, parse_json(content))
            if file["format"] != FORMAT or file["version"] > VERSION:
                raise RunError(f"{path} is no stream that this version reads; upgrade: pip install -U 'edgerec[all]'")
            segments = [SegmentResult.from_json(fields) for fields in file["segments"]]
            return cls(cast("dict[str, Any]", file["command"]), file["data_fingerprint"], file["of"], segments)
        except ValueError as error:
            raise RunError(f"{path} is damaged ({error}); give its command again with --resume") from error


class _Command(TypedDict):
    """The entries of the command that reports show; there are more."""

    data: str
    backbone: str
    method: str
    budget: str
    seed: int


class _File(TypedDict):
    """The content of `stream.json`."""

    format: str
    version: int
    command: _Command
    data_fingerprint: str
    of: int
    segments: list[dict[str, Any]]
