"""A page in which a bundle can be tried: static files, and nothing asked of a server once they are there."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from edgerec.errors import RequestError
from edgerec.files import remove
from edgerec.outputs import Output, check_outputs, text_of
from edgerec.runtime.bundle import Bundle
from edgerec.runtime.manifest import FILE_NAME
from edgerec_devices.web import files
from edgerec_devices.web.static_site import Files, write_site

PAGE = files.WEB / "demo"
"""What is written by hand; the programs are built into `files.DIST`."""
PROGRAMS = {"page.mjs": "demo-page.mjs", "worker.mjs": "demo-worker.mjs"}
RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
_MARK = "sw.js"
_BEGINS = "const SITE="


def demo_output(folder: Path) -> Output:
    """The folder of a page as an output: a page for another bundle may be replaced. Pages of others may have a service
    worker of that name too, but not with this beginning."""
    worker = text_of(_BEGINS.encode())
    return Output(folder, ours=lambda place: worker(place / _MARK), folder=True)


def demo_site(folder: Path) -> Files:
    """The files of the page for the bundle in `folder`.

    Raises:
        BundleError: no bundle, or a damaged one.
        RequestError: it knows its own users only, and not which items are alike.
        BenchError: onnxruntime-web was not fetched.
    """
    bundle = Bundle(folder)
    if bundle.manifest.users is not None and not bundle.has_graph("similar"):
        raise RequestError(
            f"{folder} knows its own users only, and has no 'similar' graph: whoever opens the page is none of them; "
            "export it with --no-users"
        )
    runtime = files.installed()
    page = {path.name: path for path in PAGE.iterdir()}
    page |= {name: files.DIST / built for name, built in PROGRAMS.items()}
    return {
        **page,
        _MARK: _service_worker(page),
        **{f"ort/{name}": runtime / name for name in RUNTIME},
        **{f"bundle/{name}": folder / name for name in (FILE_NAME, *(entry.name for entry in bundle.manifest.files))},
    }


def _service_worker(page: dict[str, Path]) -> bytes:
    """The program that keeps the page's files for a visit without a network; a changed page makes another one."""
    digest = hashlib.sha256(files.version().encode())
    for name in sorted(page):
        digest.update(page[name].read_bytes())
    kept = ["./", *sorted(page.keys() - {"index.html"}), *(f"ort/{name}" for name in RUNTIME)]
    site = json.dumps({"version": digest.hexdigest()[:12], "files": kept})
    return f"{_BEGINS}{site};\n".encode() + (files.DIST / "demo-sw.mjs").read_bytes()


def write_demo(bundle: Path, folder: Path) -> int:
    """Write the page for a bundle into a folder, which any web server can give out; one that is there is replaced.

    Returns:
        Bytes of all its files.

    Raises:
        OutputError: something else is in the folder, or it lies in the bundle.
        StorageError: the file system refuses.
        As `demo_site` does.
    """
    check_outputs([demo_output(folder)], [bundle], overwrite=None)
    pages = demo_site(bundle)
    write_site(pages, folder)
    for path in (folder / "bundle").iterdir():
        if f"bundle/{path.name}" not in pages:
            remove(path)
    return sum((folder / name).stat().st_size for name in pages)
