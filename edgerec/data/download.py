"""Downloads over HTTP that resume after a lost connection; only a verified file gets its final name."""

from __future__ import annotations

import hashlib
import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgerec.errors import DownloadError
from edgerec.files import storage_failure

Progress = Callable[[str], None]

_PIECE = 1 << 18


class _CutError(Exception):
    """The connection ended before the file did."""


def download(
    url: str,
    target: Path,
    *,
    digest: str = "",
    timeout: float = 5.0,
    attempts: int = 3,
    progress: Progress | None = None,
) -> Path:
    """Download `url` to `target`; resume from a `target`.part of an earlier call.

    Args:
        digest: required 'sha256:...' or 'md5:...' of the file; '' for none.
        timeout: seconds without an answer, or without another byte, after which the connection fails.
        attempts: maximum number of connections.
        progress: called with one line of text on every attempt.

    Raises:
        DownloadError: the host does not answer or refuses, or the digest differs (the file is then removed).
        StorageError: the file cannot be written.
    """
    part = target.with_name(target.name + ".part")
    for attempt in range(1, attempts + 1):
        try:
            _fetch(url, part, timeout, progress)
            break
        except _CutError as error:
            if attempt == attempts:
                raise DownloadError(
                    f"{url}: {error}, {attempts} times; the part received is stored, try again to resume"
                ) from error
    _verify(part, digest, url)
    return part.replace(target)


def _fetch(url: str, part: Path, timeout: float, progress: Progress | None) -> None:
    have = part.stat().st_size if part.exists() else 0
    if progress:
        progress(f"downloading {url}" + (f", from byte {have:,} on" if have else ""))
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            # The server has no more bytes: the digest decides whether the part is the whole file or another one's.
            if error.headers.get("Content-Range") == f"bytes */{have}":
                return
            part.unlink()
            raise _CutError("the partial file did not fit") from error
        raise DownloadError(f"{url}: the server answers {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise DownloadError(f"{url}: {_reason(error, timeout)}") from error
    with response:
        _receive(response, part, have if _continues(response, have) else 0, timeout)


def _continues(response: Any, have: int) -> bool:
    """Return True if the response starts where the partial file ends; a server may send the whole file instead."""
    start = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return response.status == http.client.PARTIAL_CONTENT and start is not None and int(start[1]) == have


def _receive(response: Any, part: Path, have: int, timeout: float) -> None:
    length = response.headers.get("Content-Length")
    expected = None if length is None else have + int(length)
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        stream = part.open("ab" if have else "wb")
    except OSError as error:
        storage_failure(part, error, "write")
    with stream:
        while True:
            try:
                piece = response.read(_PIECE)
            except (OSError, http.client.HTTPException) as error:
                raise _CutError(_reason(error, timeout)) from error
            if not piece:
                break
            try:
                stream.write(piece)
            except OSError as error:
                storage_failure(part, error, "write")
        received = stream.tell()
    if expected is not None and received < expected:
        raise _CutError(f"the connection was cut after {received:,} of {expected:,} bytes")


def _verify(part: Path, digest: str, url: str) -> None:
    if not digest:
        return
    algorithm, _, expected = digest.partition(":")
    with part.open("rb") as stream:
        found = hashlib.file_digest(stream, algorithm).hexdigest()
    if found != expected:
        part.unlink()
        raise DownloadError(f"{url}: its {algorithm} is {found}, expected {expected}; the file was removed, try again")


def _reason(error: Exception, timeout: float) -> str:
    cause = getattr(error, "reason", error)
    if isinstance(cause, TimeoutError):
        return f"no answer within {timeout:g} s"
    return str(cause) or type(cause).__name__
