"""Checks of outputs: none is an input, lies inside one, or replaces a file that EdgeRec did not write.

Every command and function that writes calls `check_outputs` before its long work, with all files and folders that it
reads and writes, derived ones such as OUT.csv next to OUT.html included.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgerec.errors import OutputError

Ours = Callable[[Path], bool]
"""Returns True if EdgeRec wrote an existing file or folder, as the same kind of output."""

HTML_MARK = b'<meta name="generator" content="EdgeRec">'
"""Mark in the head of every page that EdgeRec writes."""
_OLD_TITLES = (b"<title>EdgeRec bench</title>", b"<title>Quality per byte: ")
"""Titles of pages of versions without the mark."""
_HEAD_BYTES = 4096
_MOST_JSON_BYTES = 256 << 20


@dataclass(frozen=True)
class Output:
    """A file or folder that a command writes.

    Attributes:
        path: the file or folder.
        option: the option that names it, for messages; of a derived name the option that it is derived from.
        ours: returns True if an existing file or folder may be replaced without --overwrite; None if its content
            cannot decide that.
        folder: True for a folder whose files are replaced together.
        shared: True for a folder that may hold other files, inputs among them.
    """

    path: Path
    option: str = "--out"
    ours: Ours | None = None
    folder: bool = False
    shared: bool = False


def check_outputs(
    outputs: Iterable[Output], inputs: Iterable[str | Path | None] = (), *, overwrite: bool | None = False
) -> None:
    """Check that outputs damage no input, no other output and no foreign file.

    Paths are compared resolved, and by device and inode, so that links, and names that differ in case on a file system
    that ignores it, are recognised.

    Args:
        inputs: files and folders that are read; None and missing ones are skipped.
        overwrite: replace files that are not EdgeRec's; None if a command has no such option.

    Raises OutputError.
    """
    listed = list(outputs)
    read = [place for place in map(_Place, (Path(one) for one in inputs if one is not None)) if place.exists]
    for output in listed:
        _check_inputs(output, read)
    _check_apart(listed)
    for output in listed:
        _check_replaced(output, overwrite)


class _Place:
    """A path with the identities of its target and of every folder above."""

    def __init__(self, path: Path) -> None:
        self.path, real = path, Path(os.path.realpath(path))
        self.own = _names(real)
        self.above = frozenset().union(*map(_names, real.parents))
        self.exists = any(isinstance(name, tuple) for name in self.own)

    def is_same(self, other: _Place) -> bool:
        return bool(self.own & other.own)

    def is_inside(self, other: _Place) -> bool:
        return bool(self.above & other.own)


def _names(path: Path) -> frozenset[Path | tuple[int, int]]:
    """Return the identities of a path: itself, and its device and inode if it exists."""
    try:
        found = os.stat(path)  # noqa: PTH116
    except (OSError, ValueError):
        return frozenset([path])
    # Some network file systems of Windows number no files.
    return frozenset([path, (found.st_dev, found.st_ino)] if found.st_ino else [path])


def _check_inputs(output: Output, read: Sequence[_Place]) -> None:
    place = _Place(output.path)
    for one in read:
        if place.is_same(one):
            raise OutputError(
                f"{output.path} is an input, and {output.option} would overwrite it; choose another {output.option}"
            )
        if place.is_inside(one):
            raise OutputError(
                f"{output.path} lies inside the input {one.path}; choose a {output.option} outside of that folder"
            )
        if output.folder and not output.shared and one.is_inside(place):
            raise OutputError(
                f"the input {one.path} lies inside {output.path}, which {output.option} fills; choose another "
                f"{output.option}"
            )


def _check_apart(outputs: Sequence[Output]) -> None:
    places = [_Place(output.path) for output in outputs]
    for number, place in enumerate(places):
        for other in range(number):
            first, second = outputs[other], outputs[number]
            if place.is_same(places[other]):
                raise OutputError(f"{first.option} and {second.option} both write {second.path}; give two names")
            for inner, outer in ((number, other), (other, number)):
                if outputs[outer].folder and not outputs[outer].shared and places[inner].is_inside(places[outer]):
                    raise OutputError(
                        f"{outputs[inner].path} lies inside {outputs[outer].path}, which holds its own files alone; "
                        f"choose another {outputs[inner].option}"
                    )


def _check_replaced(output: Output, overwrite: bool | None) -> None:
    path = output.path
    try:
        found = os.stat(path)  # noqa: PTH116
    except (OSError, ValueError):
        return
    is_folder = stat.S_ISDIR(found.st_mode)
    if output.folder and not is_folder:
        raise OutputError(f"{path} is a file, and {output.option} names a folder; choose another {output.option}")
    if is_folder and not output.folder:
        raise OutputError(f"{path} is a folder, and {output.option} names a file; choose another {output.option}")
    if is_folder:
        if output.shared or overwrite or _is_empty(path) or (output.ours is not None and output.ours(path)):
            return
    elif not stat.S_ISREG(found.st_mode) or not found.st_size:
        return  # pipes and devices are written to, and an empty file holds nothing
    elif overwrite or (output.ours is not None and output.ours(path)):
        return
    way = "" if overwrite is None else ", or give --overwrite"
    raise OutputError(f"{path} exists and was not written by this command; choose another {output.option}{way}")


def _is_empty(folder: Path) -> bool:
    try:
        return not any(folder.iterdir())
    except OSError:
        return False


def always(path: Path) -> bool:
    """Return True: for outputs that their writer checks itself."""
    return True


def json_of(*formats: str) -> Ours:
    """Return a check for JSON, an object or a list of them, with one of these values of "format"."""

    def ours(path: Path) -> bool:
        found = _formats(path)
        return bool(found) and found <= set(formats)

    return ours


def record(path: Path) -> bool:
    """Return True for JSON, an object or a list of them, of any format of EdgeRec."""
    found = _formats(path)
    return bool(found) and all(name.startswith("edgerec.") for name in found)


def _formats(path: Path) -> set[str]:
    """Return the "format" of a JSON object, or of each in a list; '' for a value without one."""
    try:
        if path.stat().st_size > _MOST_JSON_BYTES:
            return set()
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return set()
    entries = found if isinstance(found, list) else [found]
    return {str(one.get("format", "")) if isinstance(one, dict) else "" for one in entries}


def text_of(*beginnings: bytes) -> Ours:
    """Return a check for files that begin with one of these bytes."""

    def ours(path: Path) -> bool:
        return _head(path).startswith(beginnings)

    return ours


def lines_of(beginning: bytes) -> Ours:
    """Return a check for files of lines with this beginning; a kill may have truncated the first one."""

    def ours(path: Path) -> bool:
        head = _head(path)
        return head.startswith(beginning) or beginning.startswith(head)

    return ours


def page(path: Path) -> bool:
    """Return True for an HTML page of EdgeRec."""
    head = _head(path)
    return any(mark in head for mark in (HTML_MARK, *_OLD_TITLES))


def folder_of(name: str, *formats: str) -> Ours:
    """Return a check for folders whose file `name` is JSON of one of these formats."""
    file = json_of(*formats)
    return lambda path: file(path / name)


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(_HEAD_BYTES)
    except OSError:
        return b""
