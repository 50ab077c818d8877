"""The request for an export: every setting, checked before anything is read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from edgerec.errors import UnsupportedError
from edgerec.runtime.manifest import LARGEST_INDEX
from edgerec_export.layouts import BLOCKED
from edgerec_export.patch import PreviousBundle
from edgerec_export.values import PRECISIONS

SCALES = ("auto", "table", "block", "row")
IDS = ("raw", "none", "hash64")
VERSIONS = ("2.0", "1.0")
"""Versions of the bundle format that can be written."""


@dataclass(frozen=True)
class ExportRequest:
    """The settings of an export, checked: the keywords of `edgerec_export.export`, which documents them.

    Attributes:
        previous: the bundle that `like` names, as `resolved` reads it; not a keyword.
        one_file: True if the bundle is one file, as the suffix of `out` says; not a keyword.
        stated_limit: `max_bytes` for the manifest: that of the caller, or of the older bundle; not a keyword.
    """

    layout: str = "auto"
    precision: str = "fp32"
    max_bytes: int | None = None
    fit: bool = False
    max_rss: int | None = None
    max_ms: float | None = None
    users: bool = True
    titles: bool = False
    ids: str = "raw"
    id_map: str | Path | None = None
    similar: bool | None = None
    lookup: bool = False
    scales: str = "auto"
    user_scales: str | None = None
    rotate: bool = True
    version: str = VERSIONS[0]
    rollback_index: int | None = None
    like: str | Path | None = None
    calibration: str | Path | None = None
    sign: str | Path | None = None
    verify: bool = True
    previous: PreviousBundle | None = None
    one_file: bool = False
    stated_limit: int | None = None

    @property
    def is_version_2(self) -> bool:
        """True for coded ids, scales outside of the graphs, and numbers of rows of integer tables in a byte each."""
        return self.version != "1.0"

    def __post_init__(self) -> None:
        """Raises UnsupportedError for names that do not exist and settings that exclude each other."""
        if self.precision not in (*PRECISIONS, "auto"):
            raise UnsupportedError(
                f"there is no precision {self.precision!r}; there are: {', '.join(PRECISIONS)}, auto"
            )
        if self.scales not in SCALES:
            raise UnsupportedError(f"there are no scales a {self.scales!r}; there are: {', '.join(SCALES)}")
        if self.user_scales is not None and self.user_scales not in SCALES:
            raise UnsupportedError(f"there are no user scales a {self.user_scales!r}; there are: {', '.join(SCALES)}")
        if self.ids not in IDS:
            raise UnsupportedError(f"there are no ids {self.ids!r}; there are: {', '.join(IDS)}")
        if self.version not in VERSIONS:
            raise UnsupportedError(f"there is no version {self.version!r} of bundles; there are: {', '.join(VERSIONS)}")
        if self.one_file and not self.is_version_2:
            raise UnsupportedError("bundles of version 1.0 are folders; write version 2.0 as one file")
        if not self.is_version_2 and (self.ids == "hash64" or self.rollback_index is not None):
            raise UnsupportedError("bundles of version 1.0 have no hashed ids and no rollback index; write version 2.0")
        if self.rollback_index is not None and not 0 <= self.rollback_index <= LARGEST_INDEX:
            raise UnsupportedError(f"a rollback index is a number from 0 to {LARGEST_INDEX}, got {self.rollback_index}")
        if self.like is not None and self.previous is None:
            self._check_like()
            return
        if self.scales != "auto" and self.precision in ("fp32", "fp16", "auto"):
            raise UnsupportedError(
                f"scales are of int8 and int4; {self.precision} does not take --scales {self.scales}"
            )
        if self.precision == "int2" and (self.layout not in ("auto", *BLOCKED) or not self.is_version_2):
            raise UnsupportedError(
                "int2 is stored in the layouts dense and mixed of version 2.0; choose another precision"
            )
        if self.precision == "int2" and not {self.scales, self.user_scales} <= {"auto", "row", None}:
            raise UnsupportedError("int2 has no zero, and needs a scale a row; leave --scales out")
        if self.lookup and self.layout not in ("csc", "auto"):
            raise UnsupportedError(f"{self.layout} looks rows up as it is; --lookup is for the layout csc")
        if self.scales == "row" and self.layout == "csc":
            raise UnsupportedError("csc has no scale a row: a value's row is not at hand where it is decoded")

    def _check_like(self) -> None:
        usual = {"layout": "auto", "precision": "fp32", "scales": "auto", "user_scales": None, "fit": False}
        if changed := [name for name, default in usual.items() if getattr(self, name) != default]:
            raise UnsupportedError(f"the older bundle of `like` decides {', '.join(changed)}; leave one of them out")

    def resolved(self) -> ExportRequest:
        """Return the request with the settings of the older bundle that `like` names filled in.

        Raises:
            BundleError: the older bundle is missing or damaged.
            UnsupportedError: the older bundle has rows of several precisions, and no ids.
        """
        if self.like is None or self.previous is not None:
            return replace(self, stated_limit=self.max_bytes)
        previous = PreviousBundle.read(self.like)
        limit = previous.max_bytes if self.max_bytes is None else self.max_bytes
        return replace(
            self,
            max_bytes=limit,
            stated_limit=limit,
            previous=previous,
            layout=previous.layout,
            precision=previous.precision,
            scales=previous.scaled,
            user_scales=previous.users_scaled,
            rotate=bool(previous.rotation),
            version=previous.version,
            rollback_index=previous.rollback_index if self.rollback_index is None else self.rollback_index,
            users=self.users and "users" in previous.parts,
            titles=self.titles or "titles" in previous.parts,
            similar="similar" in previous.parts if self.similar is None else self.similar,
            lookup=self.lookup or "lookup" in previous.parts,
            ids=previous.ids if self.ids == "raw" else self.ids,
        )

    def with_finer_scales(self, side: str | None) -> ExportRequest | None:
        """Return the request with one scale a row on this side ('item' or 'user'); None if the scales are fixed."""
        if side is None or self.scales != "auto" or self.previous is not None or self.user_scales is not None:
            return None
        if side == "user":
            return replace(self, user_scales="row")
        return None if self.layout == "csc" else replace(self, scales="row")
