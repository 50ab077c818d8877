"""The result, the fourth artefact: the measurement of one bundle on one device, as immutable, versioned JSON."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgerec.errors import BenchError
from edgerec.files import sha256
from edgerec.json_records import checked, record
from edgerec.runtime.manifest import FILE_NAME, read_manifest, section_name
from edgerec_bench.result.figures import Measured, quality_warnings
from edgerec_bench.result.process import Clock, clock_of

FORMAT, VERSION = "edgerec.result", 2
"""Version 2 replaced 'score 1' by lookup, and added figures that may be null and scenarios in their own processes."""

SCENARIOS = ("recommend", "score", "lookup", "history", "load", "sustained", "offline")
"""The scenarios, in the order in which they run; docs/reference/results.md describes them."""
USUAL = SCENARIOS[:4]


@dataclass(frozen=True)
class BundleFacts:
    """Facts from a bundle's manifest.

    Attributes:
        name: name of its folder.
        nbytes: bytes of all files, including the manifest.
        parts: bytes by part; they sum to nbytes.
        users: number of users; 0 if user vectors are computed from histories.
        item_blocks: (width, rows) of each block of item rows; empty in results of older versions.
        about: data, backbone, method, budget and metrics, as stored in the bundle.
        manifest_sha256: identifies the bundle exactly.
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
        """Check the types, and turn the lists of JSON into tuples. Raises TypeError."""
        if not isinstance(self.about, dict) or not isinstance(self.parts, dict):
            raise TypeError("about and parts must be objects")
        counts = (self.nbytes, self.d, self.items, self.users, *self.parts.values())
        if not all(isinstance(count, int) for count in counts):
            raise TypeError("bytes, rows and dimensions must be whole numbers")
        object.__setattr__(self, "item_blocks", tuple((int(width), int(rows)) for width, rows in self.item_blocks))

    @classmethod
    def read(cls, folder: Path) -> BundleFacts:
        """Read the manifest in a folder. Raises BundleError if there is no bundle, StorageError."""
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
        """Return a test metric of the trained tables, such as 'ndcg@20'; None if the bundle has none."""
        metrics = self.about.get("metrics")
        test = metrics.get("test") if isinstance(metrics, dict) else None
        value = test.get(name) if isinstance(test, dict) else None
        return float(value) if isinstance(value, (int, float)) else None


def _plain_name(file: str) -> str:
    """Remove the hash from a file name: README-1c55d0f80c9a.md becomes README.md, one part in every bundle."""
    return re.sub(r"-[0-9a-f]{12}(?=\.\w+$)", "", file)


@dataclass(frozen=True)
class Settings:
    """The settings of a measurement.

    Attributes:
        processes: number of fresh processes for each bundle; several bundles are interleaved.
        calls: minimum number of warm calls of a scenario.
        seconds: minimum duration of a scenario.
        k: number of items to recommend.
        exclude: number of random items to exclude per call.
        history: number of random items in a history, for bundles without users.
        candidates: numbers of candidates of the scenario score.
        threads: number of onnxruntime threads.
        seed: seed of the random requests.
        scenarios: names from `SCENARIOS`, in that order.
        sustained_seconds: duration of the scenario sustained.
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
        """Check the settings. Raises BenchError for numbers out of range and unknown scenarios."""
        if unknown := [name for name in self.scenarios if name not in SCENARIOS]:
            raise BenchError(f"unknown scenario {unknown[0]!r}; expected one of: {', '.join(SCENARIOS)}")
        object.__setattr__(self, "scenarios", tuple(name for name in SCENARIOS if name in self.scenarios))
        object.__setattr__(self, "candidates", tuple(self.candidates))
        for name in ("processes", "calls", "k", "history", "threads"):
            if getattr(self, name) < 1:
                raise BenchError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if self.seconds < 0 or self.exclude < 0 or min(self.candidates, default=1) < 1:
            raise BenchError("seconds and exclude must not be negative, and candidates must be 1 or more")
        if self.sustained_seconds <= 0:
            raise BenchError(f"sustained_seconds must be above 0, got {self.sustained_seconds:g}")

    @property
    def lasts_s(self) -> float:
        """Upper limit of the seconds that one process measures, as warm-up may double the requested duration."""
        calls = 2 * (2 + len(self.candidates) + len(self.scenarios)) * self.seconds
        return calls + (self.sustained_seconds if "sustained" in self.scenarios else 0.0)


@dataclass(frozen=True)
class Result:
    """One bundle measured on one device.

    Attributes:
        device: facts that the device reported.
        measured: figures of every process, and medians over them.
        started, finished: UTC, ISO 8601.
        command: command line that repeats the measurement.
        edgerec: version of edgerec that measured.
        partial: the reason why measuring ended early; None for a complete result.
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
        """Kind of the device's clock, which gives the unit of every figure whose name ends with _ms."""
        return clock_of(self.device)

    @property
    def runtime(self) -> str:
        """Runtime of the graphs, one of python, c, node and browser."""
        return str(self.device.get("runtime", "python"))

    @property
    def warnings(self) -> list[str]:
        """Warnings about the quality of the figures, with the command to run next."""
        reasons = list(quality_warnings(self.measured, self.device))
        reasons += [f"{name} was requested, but the device reports no figures of it" for name in self._unreported()]
        if self.partial:
            done, total = len(self.measured.processes), self.settings.processes
            reasons.insert(0, f"partial, {done} of {total} processes were measured: {self.partial}")
        return [f"{self.bundle.name}: {reason}" for reason in reasons]

    def _unreported(self) -> list[str]:
        """Return requested scenarios that the agent, or a clock that counts instructions, does not support."""
        if self.partial:
            return []
        processes = self.measured.processes
        reported: dict[str, object] = {
            "load": any(one.cold or one.warm_because for one in processes),
            "sustained": self.measured.windows,
            "offline": self.measured.throughputs,
        }
        return [name for name in self.settings.scenarios if name in reported and not reported[name]]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a result on disk has them."""
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
        """Parse the fields. Raises KeyError, TypeError or ValueError if one is missing or of another type."""
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
    """Convert the fields of version 1 to version 2, where 'score 1' is named lookup."""
    settings = dict(fields["settings"])
    candidates = settings.get("candidates", [1, 50, 1000])
    settings["candidates"] = [count for count in candidates if count != 1]
    settings["scenarios"] = ["recommend", "score", *(["lookup"] if 1 in candidates else [])]
    processes = [
        {**one, "scenarios": {"lookup" if name == "score 1" else name: own for name, own in one["scenarios"].items()}}
        for one in fields["processes"]
    ]
    return {**fields, "partial": None, "settings": settings, "processes": processes}
