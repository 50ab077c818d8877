"""The demo page of a Thing: files that `edgerec demo --out` wrote, with the bundle that the server has now."""

from __future__ import annotations

import os
from http import HTTPStatus
from pathlib import Path, PurePosixPath

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from edgerec.errors import ServeError
from edgerec.runtime.manifest import FILE_NAME, OURS
from edgerec.serve.answers import answer, problem
from edgerec.serve.thing import Thing
from edgerec.serve.tokens import Holder

BUNDLES = "bundle"
"""The folder of the page that holds bundles; `list.json` in it names theirs."""
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".mjs": "text/javascript",
    ".js": "text/javascript",
    ".css": "text/css",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
}


def page_files(folder: Path) -> dict[str, Path]:
    """Return the files of a page by path, apart from its bundles. Requests are looked up in it, so that no path leads
    elsewhere. Raises ServeError if the folder holds no page."""
    found = {
        path.relative_to(folder).as_posix(): path
        for top, folders, names in os.walk(folder)
        for path in (Path(top, name) for name in names)
        if path.is_file() and not path.is_symlink() and path.relative_to(folder).parts[0] != BUNDLES
    }
    if not {"index.html", "worker.mjs"} <= found.keys():
        raise ServeError(f"{folder} holds no page; write one: edgerec demo BUNDLE --out {folder}")
    return found


class Page:
    """The page of one Thing."""

    def __init__(self, thing: Thing, files: dict[str, Path]) -> None:
        self._thing, self._files = thing, files

    async def __call__(self, request: Request, holder: Holder) -> Response:
        path: str = request.path_params["path"] or "index.html"
        if path == f"{BUNDLES}/list.json":
            return answer(["0"])
        file = self._files.get(path) or self._of_bundle(path)
        if file is None or not file.is_file() or file.is_symlink():
            return problem(HTTPStatus.NOT_FOUND, "the page has no such file", "RefusedError")
        kind = TYPES.get(PurePosixPath(path).suffix, "application/octet-stream")
        return FileResponse(file, media_type=kind, headers={"Cache-Control": "no-cache"})

    def _of_bundle(self, path: str) -> Path | None:
        """Return a file of the bundle, also one of the version before: its reader may have begun with that."""
        folder, _, name = path.rpartition("/")
        if folder != f"{BUNDLES}/0":
            return None
        named = {FILE_NAME, *(entry.name for entry in self._thing.version.model.manifest.files)}
        return self._thing.folder / name if name in named or OURS.fullmatch(name) else None
