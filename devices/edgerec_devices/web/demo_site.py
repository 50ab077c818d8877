"""A page in which bundles can be tried: static files, after which no server is needed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from edgerec.errors import RequestError
from edgerec.files import remove
from edgerec.outputs import Output, check_outputs, text_of
from edgerec.runtime.bundle import Bundle
from edgerec.runtime.manifest import FILE_NAME, read_manifest
from edgerec_devices.web import files
from edgerec_devices.web.static_site import Files, write_site

PAGE = files.WEB / "demo"
"""Files written by hand; the programs are built into `files.DIST`."""
LIBRARY = ("edgerec-kernel.mjs", "edgerec-session.mjs", "edgerec-kernel.wasm")
"""The part of the library that the worker uses: it opens no bundle in one file, and checks no signature."""
PROGRAMS = {
    "page.mjs": "demo-page.mjs",
    "worker.mjs": "demo-worker.mjs",
    **{name: name for name in LIBRARY},
}
LIST = "bundle/list.json"
"""The folders of the bundles, the smallest bundle first."""
_MARK = "sw.js"
_BEGINS = "const SITE="


def demo_output(folder: Path) -> Output:
    """Return the folder of a page as an output: a page for other bundles may be replaced. Pages of others may have a
    service worker of that name too, but not with this beginning."""
    worker = text_of(_BEGINS.encode())
    return Output(folder, ours=lambda place: worker(place / _MARK), folder=True)


def demo_site(folders: Sequence[Path]) -> Files:
    """Return the files of the page for the bundles in `folders`, which hold the same items in different sizes.

    Raises:
        BundleError: no bundle, or a damaged one.
        RequestError: a bundle knows its own users only, and not which items are alike; or the items differ.
    """
    for folder in folders:
        read_manifest(folder)  # refuses a bundle in one file: the page copies the files of folders
    bundles = sorted(map(Bundle, folders), key=_nbytes)
    for bundle in bundles:
        _check(bundle, bundles[0])
    page: dict[str, Path | bytes] = {path.name: path for path in PAGE.iterdir()}
    page |= {name: files.DIST / built for name, built in PROGRAMS.items()}
    page[LIST] = json.dumps([str(number) for number in range(len(bundles))]).encode()
    return {
        **page,
        _MARK: _service_worker(page),
        **{
            f"bundle/{number}/{name}": bundle.folder / name
            for number, bundle in enumerate(bundles)
            for name in (FILE_NAME, *(entry.name for entry in bundle.manifest.files))
        },
    }


def _check(bundle: Bundle, first: Bundle) -> None:
    """Refuse a bundle that cannot answer a stranger, is too old, or holds other items than the first one."""
    if bundle.manifest.version < (2, 0) and "int" in bundle.manifest.precision:
        raise RequestError(
            f"{bundle.folder} has integers of version 1.0, whose scales are in graphs, and the page runs no graphs; "
            "export it again"
        )
    if bundle.manifest.users is not None and not bundle.has_graph("similar"):
        raise RequestError(
            f"{bundle.folder} knows its own users only, and has no 'similar' graph: whoever opens the page is none of "
            "them; export it with --no-users"
        )
    if bundle is not first and _items(bundle) != _items(first):
        raise RequestError(
            f"{bundle.folder} and {first.folder} hold different items; give bundles of one catalogue, such as exports "
            "of one run with different --max-bytes"
        )


def _items(bundle: Bundle) -> set[object]:
    """Return the raw ids of a bundle's items."""
    side = bundle.manifest.items
    return set(bundle.ids("item", side).raw(np.arange(side.rows)))


def _nbytes(bundle: Bundle) -> int:
    return (bundle.folder / FILE_NAME).stat().st_size + sum(entry.bytes for entry in bundle.manifest.files)


def _service_worker(page: dict[str, Path | bytes]) -> bytes:
    """Return the program that stores the page's files for a visit without a network; it changes with the page."""
    digest = hashlib.sha256()
    for name in sorted(page):
        content = page[name]
        digest.update(content if isinstance(content, bytes) else content.read_bytes())
    stored = ["./", *sorted(page.keys() - {"index.html"})]
    site = json.dumps({"version": digest.hexdigest()[:12], "files": stored})
    return f"{_BEGINS}{site};\n".encode() + (files.DIST / "demo-sw.mjs").read_bytes()


def write_demo(bundles: Sequence[Path], folder: Path) -> int:
    """Write the page for bundles into a folder that any web server can serve; a page that is there is replaced.

    Returns:
        Bytes of all its files.

    Raises:
        OutputError: something else is in the folder, or it lies in a bundle.
        StorageError: the file system refuses.
        As `demo_site` does.
    """
    check_outputs([demo_output(folder)], bundles, overwrite=None)
    pages = demo_site(bundles)
    write_site(pages, folder)
    for path in sorted((folder / "bundle").rglob("*"), reverse=True):
        if path.is_dir():
            with suppress(OSError):  # files of this page are in it
                path.rmdir()
        elif path.relative_to(folder).as_posix() not in pages:
            remove(path)
    return sum((folder / name).stat().st_size for name in pages)
