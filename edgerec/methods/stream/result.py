"""The result of training on a stream: `stream.json`, written after each segment."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from edgerec.errors import RunError
from edgerec.files import storage_failure, write_json

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
        try:
            fields = json.loads(path.read_bytes())
            if fields["format"] != FORMAT or fields["version"] > VERSION:
                raise RunError(f"{path} is no stream that this version reads; upgrade: pip install -U 'edgerec[all]'")
            segments = [SegmentResult(**segment) for segment in fields["segments"]]
            return cls(fields["command"], fields["data_fingerprint"], fields["of"], segments)
        except (FileNotFoundError, NotADirectoryError):
            raise RunError(f"{folder} holds no stream: there is no {FILE_NAME} in it; make one with 'edgerec stream'") \
                from None  # fmt: skip
        except OSError as error:
            storage_failure(path, error, "read")
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"{path} is damaged ({error!r}); give its command again with --resume") from error
