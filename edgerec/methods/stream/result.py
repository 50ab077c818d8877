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
FILE_NAME = "stream.json"
METRICS = ("recall@20", "ndcg@20")
"""Metrics of a stream, averaged over its segments (SCALL)."""


@dataclass(frozen=True)
class SegmentResult:
    """The result of a segment.

    Attributes:
        number: from 0.
        run: the folder of its run, beside `stream.json`.
        begins, ends: seconds, of its first and last interaction.
        rows: {'users', 'items', 'new_users', 'new_items'}: those that are known, and those that came with it.
        interactions: {'train', 'replay', 'test'}.
        room: values that the budget leaves.
        values: that there are; never more.
        table_bytes: of the stored tables, sizes and float32 values.
        sizes: of ten parts of the rows of each side, as `size_deciles` has them.
        metrics: of the test part.
        chosen: what the method tells of its choice.
        tries: rehearsals on the segment before.
    """

    number: int
    run: str
    begins: int
    ends: int
    rows: dict[str, int]
    interactions: dict[str, int]
    room: int
    values: int
    table_bytes: int
    sizes: dict[str, list[float]]
    metrics: dict[str, float]
    chosen: dict[str, Any]
    tries: int

    def __post_init__(self) -> None:
        """Raises ValueError where something that every segment has is missing."""
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

    @property
    def mean_sizes(self) -> dict[str, float]:
        """Values of a user and of an item."""
        return {side: mean(parts) for side, parts in self.sizes.items()}


@dataclass(frozen=True)
class StreamResult:
    """The result of a stream, or of a part of it: what `stream.json` holds.

    Attributes:
        command: what decides it.
        data_fingerprint: of all interactions.
        of: segments that there are.
        segments: those that are done.
    """

    command: dict[str, Any]
    data_fingerprint: str
    of: int
    segments: list[SegmentResult] = field(default_factory=list)

    @property
    def done(self) -> bool:
        """Whether all segments are."""
        return len(self.segments) == self.of

    def mean(self) -> dict[str, float]:
        """METRICS over the segments after the first (SCALL); empty before there is one."""
        later = self.segments[1:]
        return {name: mean(segment.metrics[name] for segment in later) for name in METRICS} if later else {}

    def to_json(self) -> dict[str, Any]:
        segments = [asdict(segment) for segment in self.segments]
        about = {"format": FORMAT, "version": VERSION, "command": self.command}
        return {
            **about, "data_fingerprint": self.data_fingerprint, "of": self.of, "mean": self.mean(), "segments": segments
        }  # fmt: skip

    def save(self, folder: Path) -> None:
        """Write `stream.json`. Raises StorageError."""
        write_json(folder / FILE_NAME, self.to_json())

    @classmethod
    def load(cls, folder: Path) -> StreamResult:
        """Read `stream.json`. Raises RunError where there is none, or it is damaged; StorageError."""
        path = folder / FILE_NAME
        content = read_if_there(path)
        if content is None:
            raise RunError(f"{folder} holds no stream: there is no {FILE_NAME} in it; make one with 'edgerec stream'")
        try:
            file = record(_File, parse_json(content))
            if file["format"] != FORMAT or file["version"] > VERSION:
                raise RunError(f"{path} is no stream that this version reads; upgrade: pip install -U 'edgerec[all]'")
            return cls(cast("dict[str, Any]", file["command"]), file["data_fingerprint"], file["of"], file["segments"])
        except ValueError as error:
            raise RunError(f"{path} is damaged ({error}); give its command again with --resume") from error


class _Command(TypedDict):
    """What a page shows of the command; there is more."""

    data: str
    backbone: str
    method: str
    budget: str
    seed: int


class _File(TypedDict):
    """What is read of `stream.json`."""

    format: str
    version: int
    command: _Command
    data_fingerprint: str
    of: int
    segments: list[SegmentResult]
