"""The fourth artefact: what bench writes. One device, one bundle, immutable, versioned JSON."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgerec.errors import BenchError
from edgerec.files import sha256
from edgerec.json_records import checked, record
from edgerec.runtime.manifest import FILE_NAME, read_manifest, section_name
from edgerec_bench.result.figures import Measured, doubts
from edgerec_bench.result.process import Clock, clock_of

FORMAT, VERSION = "edgerec.result", 2
"""Version 2 has lookup in place of 'score 1', figures that may be null, and scenarios in processes of their own."""

SCENARIOS = ("recommend", "score", "lookup", "history", "load", "sustained", "offline")
"""docs/reference/results.md says what each is."""
USUAL = SCENARIOS[:4]


@dataclass(frozen=True)
class BundleFacts:
    """What a bundle's manifest says.

    Attributes:
        name: of its folder.
        nbytes: of all files, the manifest counted.
        parts: bytes by part; they sum to nbytes.
        users: 0 where a user's vector is made from a history.
        item_blocks: (width, rows) of each block of item rows; empty in results of older versions.
        about: data, backbone, method, budget, metrics: as the bundle carries them.
        manifest_sha256: says which bundle it was, to the byte.
    """

    name: str
    nbytes: int
    parts: dict[str, int]
    layout: str
    precision: str
    d: int
    items: int
    users: int
    about: dict[str, Any]
    manifest_sha256: str
    item_blocks: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        """JSON has lists where this has tuples. Raises TypeError where a result on disk has another type."""
        if not isinstance(self.about, dict) or not isinstance(self.parts, dict):
            raise TypeError("about and parts must be objects")
        counts = (self.nbytes, self.d, self.items, self.users, *self.parts.values())
        if not all(isinstance(count, int) for count in counts):
            raise TypeError("bytes, rows and dimensions must be whole numbers")
        object.__setattr__(self, "item_blocks", tuple((int(width), int(rows)) for width, rows in self.item_blocks))

    @classmethod
    def read(cls, folder: Path) -> BundleFacts:
        """Raises BundleError where there is no bundle, StorageError where the file system refuses."""
        manifest = read_manifest(folder)
        path = folder / FILE_NAME
        own = path.stat().st_size
        parts = {section_name(name): s.nbytes for name, s in manifest.sections.items()}
        parts["alignment"] = manifest.tables.bytes - sum(parts.values())
        parts |= {f"{name} graph": graph.file.bytes for name, graph in manifest.graphs.items()}
        parts |= {"manifest": own} | {_plain_name(entry.name): entry.bytes for entry in manifest.other_files}
        return cls(
            name=folder.resolve().name,
            nbytes=own + sum(entry.bytes for entry in manifest.files),
            parts={name: size for name, size in parts.items() if size},
            layout=manifest.layout,
            precision=manifest.precision,
            d=manifest.d,
            items=manifest.items.rows,
            users=0 if manifest.users is None else manifest.users.rows,
            about=manifest.about,
            manifest_sha256=sha256(path),
            item_blocks=manifest.items.blocks,
        )

    def metric(self, name: str) -> float | None:
        """A test metric such as 'ndcg@20', of the trained tables; None where the bundle carries none."""
        metrics = self.about.get("metrics")
        test = metrics.get("test") if isinstance(metrics, dict) else None
        value = test.get(name) if isinstance(test, dict) else None
        return float(value) if isinstance(value, (int, float)) else None


def _plain_name(file: str) -> str:
    """README.md of README-1c55d0f80c9a.md: one part in every bundle."""
    return re.sub(r"-[0-9a-f]{12}(?=\.\w+$)", "", file)


@dataclass(frozen=True)
class Settings:
    """How it was measured.

    Attributes:
        processes: fresh ones, one after the other; with several bundles, in turns.
        calls: warm calls a scenario at least.
        seconds: a scenario at least.
        k: items asked for.
        exclude: random items excluded a call.
        history: random items of history a call, for bundles without users.
        candidates: what the scenario score scores.
        threads: onnxruntime's.
        seed: of the questions.
        scenarios: of `SCENARIOS`, in that order.
        sustained_seconds: how long the scenario sustained lasts.
    """

    processes: int = 3
    calls: int = 200
    seconds: float = 1.0
    k: int = 20
    exclude: int = 20
    history: int = 20
    candidates: tuple[int, ...] = (50, 1000)
    threads: int = 1
    seed: int = 0
    scenarios: tuple[str, ...] = USUAL
    sustained_seconds: float = 120.0

    def __post_init__(self) -> None:
        """Raises BenchError for numbers that measure nothing, and for scenarios that are none."""
        if unknown := [name for name in self.scenarios if name not in SCENARIOS]:
            raise BenchError(f"there is no scenario {unknown[0]!r}; there are: {', '.join(SCENARIOS)}")
        object.__setattr__(self, "scenarios", tuple(name for name in SCENARIOS if name in self.scenarios))
        object.__setattr__(self, "candidates", tuple(self.candidates))
        for name in ("processes", "calls", "k", "history", "threads"):
            if getattr(self, name) < 1:
                raise BenchError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if self.seconds < 0 or self.exclude < 0 or min(self.candidates, default=1) < 1:
            raise BenchError("seconds and exclude must not be negative, and candidates must be 1 or more")
        if self.sustained_seconds <= 0:
            raise BenchError("a sustained load must last longer than no time at all")

    @property
    def lasts_s(self) -> float:
        """Seconds that measuring in one process may take by these settings: warm-up may double what is asked for."""
        calls = 2 * (2 + len(self.candidates) + len(self.scenarios)) * self.seconds
        return calls + (self.sustained_seconds if "sustained" in self.scenarios else 0.0)


@dataclass(frozen=True)
class Result:
    """One bundle measured on one device.

    Attributes:
        device: what the device said of itself.
        measured: every process's figures, and medians over them.
        started, finished: UTC, ISO 8601.
        command: measures the same again.
        edgerec: the version that measured.
        partial: why it ended before all was measured; None where all was.
    """

    bundle: BundleFacts
    settings: Settings
    device: dict[str, Any]
    measured: Measured
    started: str
    finished: str
    command: str
    edgerec: str
    partial: str | None = None

    @property
    def clock(self) -> Clock:
        """What the device's clock counts: the unit of every figure whose name ends with _ms."""
        return clock_of(self.device)

    @property
    def runtime(self) -> str:
        """What ran the graphs: python, c, node, browser."""
        return str(self.device.get("runtime", "python"))

    @property
    def warnings(self) -> list[str]:
        """What makes these figures less than trustworthy, and what to run next."""
        reasons = list(doubts(self.measured, self.device))
        reasons += [f"{name} was asked for, and the device tells no figures of it" for name in self._untold()]
        if self.partial:
            done, wanted = len(self.measured.processes), self.settings.processes
            reasons.insert(0, f"partial, {done} of {wanted} processes were measured: {self.partial}")
        return [f"{self.bundle.name}: {reason}" for reason in reasons]

    def _untold(self) -> list[str]:
        """Scenarios that an agent, or a clock that counts instructions, does not have."""
        if self.partial:
            return []
        processes = self.measured.processes
        told: dict[str, object] = {
            "load": any(one.cold or one.warm_because for one in processes),
            "sustained": self.measured.windows,
            "offline": self.measured.throughputs,
        }
        return [name for name in self.settings.scenarios if name in told and not told[name]]

    def to_json(self) -> dict[str, Any]:
        """As it is written."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "bundle": asdict(self.bundle),
            "settings": asdict(self.settings),
            "device": self.device,
            "clock": self.clock.name,
            "runtime": self.runtime,
            "partial": self.partial,
            **self.measured.to_json(),
            "warnings": self.warnings,
            "started": self.started,
            "finished": self.finished,
            "command": self.command,
            "edgerec": self.edgerec,
        }

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Result:
        """Raises KeyError, TypeError or ValueError where something is missing or of another type."""
        if fields["version"] == 1:
            fields = _of_version_1(fields)
        partial = fields["partial"]
        return cls(
            record(BundleFacts, fields["bundle"], "bundle"),
            record(Settings, fields["settings"], "settings"),
            checked(dict[str, Any], fields["device"], "device"),
            Measured.from_json(fields),
            str(fields["started"]),
            str(fields["finished"]),
            str(fields["command"]),
            str(fields["edgerec"]),
            None if partial is None else str(partial),
        )


def _of_version_1(fields: dict[str, Any]) -> dict[str, Any]:
    """What version 2 would have written: 'score 1' was what lookup is."""
    settings = dict(fields["settings"])
    candidates = settings.get("candidates", [1, 50, 1000])
    settings["candidates"] = [count for count in candidates if count != 1]
    settings["scenarios"] = ["recommend", "score", *(["lookup"] if 1 in candidates else [])]
    processes = [
        {**one, "scenarios": {"lookup" if name == "score 1" else name: told for name, told in one["scenarios"].items()}}
        for one in fields["processes"]
    ]
    return {**fields, "partial": None, "settings": settings, "processes": processes}
