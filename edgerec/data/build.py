"""Build of data that are larger than memory: sources in, a folder of `edgerec.data.built` out, through DuckDB.

Each stage writes a folder of FOLDER/build, which takes its name when it is complete; a build that was killed continues
after the last complete stage. What no later stage reads is removed as soon as a stage is complete.
"""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from edgerec.data.attributes import has_attributes
from edgerec.data.built import FILE_NAME, FORMAT, PLAN, VERSION, WORK, is_built, open_built, read_about, read_ids
from edgerec.data.catalogue import named_sets
from edgerec.data.folders import find_interactions, find_items
from edgerec.data.interactions import COLUMNS, Interactions, user_ranges
from edgerec.data.named import find_files, name_of
from edgerec.data.readers import Reading, ReadReport
from edgerec.data.stages import BuildOptions, Stages, open_unnamed
from edgerec.errors import DataError, OutputError, StorageError, reason_of
from edgerec.extras import require
from edgerec.files import filling, read_if_there, storage_failure, sync_folder, write_json
from edgerec.json_records import parse_json

_PLAN_FORMAT = "edgerec.build"
Progress = Callable[[str, int, int], None]
"""Called with the name of a stage, its number from 1, and the number of stages."""


def build_data(
    sources: Sequence[str], folder: Path, options: BuildOptions, progress: Progress | None = None
) -> Interactions:
    """Build a folder of interactions from files, within a limit of memory; continue a build that was interrupted.

    Ids are in the order of popularity, equal ones in the order of the ids. Of a repeated pair the latest is used. The
    interactions of a user are in the order of time. A complete build of the same sources and options is returned.

    Args:
        sources: files, patterns of files, or one folder of a published data set.
        folder: new or empty folder, or one of an unfinished build of the same sources and options.

    Raises:
        MissingExtraError: DuckDB is not installed.
        OutputError: the folder holds other files, or another build.
        InUseError: another process builds into the folder.
        DataError: malformed data, nothing is left by the filters, or DuckDB needs more memory.
        StorageError: a file cannot be read, the disk is full.
    """
    if named := next((one for one in sources if one in named_sets() or one.partition(":")[0] == "synthetic"), None):
        raise DataError(f"{named} needs no build: commands take it by its name; give files or a folder ('./{named}')")
    found = [file for source in sources for file in find_files(source)]
    files, items = _files(found, options.reading)
    plan = {"format": _PLAN_FORMAT, "version": VERSION, "files": _identities(files), "options": options.to_dict()}
    _check_place(folder, plan)
    with filling(folder):
        if not (folder / FILE_NAME).exists():
            try:
                build = _Build(name_of(found), folder, plan, Stages(files, items, folder / WORK, options))
                build.run(progress or (lambda name, number, count: None))
            except OSError as error:
                storage_failure(folder, error, "write")
        shutil.rmtree(folder / WORK, ignore_errors=True)
    return open_built(folder)[0]


def _files(found: Sequence[Path], reading: Reading) -> tuple[dict[Path, int | None], Path | None]:
    """Return the files of sources, each with its part of a published split, and a file of items. Raises DataError."""
    folders = [file for file in found if file.is_dir()]
    if built := next(filter(is_built, folders), None):
        raise DataError(
            f"{built} was built by 'edgerec data build' already: commands take it as it is; give its sources"
        )
    if not folders:
        return dict.fromkeys(found), None
    if len(found) > 1:
        raise DataError(f"{folders[0]} is a folder among other sources; give one folder alone, or files")
    files = find_interactions(folders[0], reading.tell)
    if not files:
        raise DataError(f"{folders[0]} holds no interactions that can be read; give its files, or a pattern of them")
    items = next((path for path in find_items(folders[0]) if has_attributes(path, Reading())), None)
    return files, items


def _identities(files: Sequence[Path] | dict[Path, int | None]) -> list[list[Any]]:
    try:
        found = [(path.resolve(), path.stat()) for path in files]
    except OSError as error:
        storage_failure(next(iter(files)), error, "read")
    return [[str(path), about.st_size, about.st_mtime_ns] for path, about in found]


def _check_place(folder: Path, plan: dict[str, Any]) -> None:
    """Raise OutputError if a folder holds anything but this build."""
    try:
        entries = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        begun = [path.name for path in (folder / WORK).iterdir()] if WORK in entries else []
    except OSError as error:
        storage_failure(folder, error, "read")
    if not folder.is_dir() and folder.exists():
        raise OutputError(f"{folder} is a file; choose another --out")
    about = read_about(folder) if FILE_NAME in entries else None
    stored = _read_plan(folder) if about is None else {**plan, "files": about["files"], "options": about["options"]}
    if stored == plan or not entries or (entries == [WORK] and all(name.endswith(".part") for name in begun)):
        return
    if stored is None:
        raise OutputError(
            f"{folder} holds {entries[0]}, which 'edgerec data build' did not write; choose another --out, or an empty "
            "folder"
        )
    raise OutputError(
        f"{folder} holds {'an unfinished' if about is None else 'a'} build of other sources or options; choose another "
        "--out, or delete it"
    )


def _read_plan(folder: Path) -> dict[str, Any] | None:
    content = read_if_there(folder / WORK / PLAN)
    try:
        plan = None if content is None else parse_json(content)
    except ValueError:
        return None
    return plan if isinstance(plan, dict) and plan.get("format") == _PLAN_FORMAT else None


class _Build:
    """The stages of a build, in the folder `build` of its result."""

    def __init__(self, name: str, folder: Path, plan: dict[str, Any], stages: Stages) -> None:
        self._name, self._folder, self._work, self._plan, self._stages = name, folder, folder / WORK, plan, stages.all

    def run(self, progress: Progress) -> None:
        """Run the stages that are not complete, then install their results. Raises as `build_data` does."""
        self._work.mkdir(exist_ok=True)
        complete = {name for name, *_ in self._stages}
        for path in self._work.iterdir():  # a killed stage's files
            if path.is_dir() and path.name not in complete:
                shutil.rmtree(path)
        write_json(self._work / PLAN, self._plan)
        for number, (name, stage, spent) in enumerate(self._stages, 1):
            if not (self._work / name).exists() and not (self._folder / name).exists():
                progress(name, number, len(self._stages))
                part = self._work / f"{name}.part"
                part.mkdir()
                try:
                    with _named_errors(self._folder):
                        stage(part)
                    sync_folder(part)
                except BaseException:
                    shutil.rmtree(part, ignore_errors=True)
                    raise
                part.rename(self._work / name)
            for path in spent:
                path.unlink(missing_ok=True)
        self._install()

    def _install(self) -> None:
        """Move the results into the folder, `dataset.json` last."""
        report = json.loads((self._work / "pairs" / "report.json").read_bytes())
        for source in ("rank/users.parquet", "rank/items.parquet", "interactions", "split"):
            path = self._work / source
            if path.exists():
                path.rename(self._folder / path.name)
        sync_folder(self._folder)
        arrays = open_unnamed(self._folder / "interactions", self._folder / "items.parquet")
        ids = [read_ids(self._folder / f"{side}.parquet")[0] for side in ("users", "items")]
        whole = replace(arrays, user_ids=ids[0], item_ids=ids[1], name=self._name)
        write_json(
            self._folder / FILE_NAME,
            {
                "format": FORMAT,
                "version": VERSION,
                "name": whole.name,
                "counts": {"users": whole.n_users, "items": whole.n_items, "interactions": len(whole)},
                "fingerprint": whole.fingerprint(),
                **{name: self._plan[name] for name in ("files", "options")},
                "report": asdict(ReadReport(**report)),
                "columns": [name for name in COLUMNS if getattr(whole, name) is not None],
                "shards": [0, *(end for _, end in user_ranges(whole.indptr))],
                "split": self._plan["options"]["split"],
            },
        )


@contextmanager
def _named_errors(folder: Path) -> Iterator[None]:
    """Turn errors of DuckDB into those of EdgeRec."""
    try:
        yield
    except require("duckdb", "train").Error as error:
        said = reason_of(error).splitlines()[0]
        if "No space left" in said or "max_temp_directory_size" in said:
            storage_failure(folder, OSError(errno.ENOSPC, said), "write")
        if said.startswith("Out of Memory"):
            raise DataError(f"the build needs more memory ({said}); give the same command a larger --memory") from error
        raise StorageError(f"the build in {folder} failed ({said}); give the same command again") from error
