"""Downloads against a real server: whole, cut, resumed, refused."""

from __future__ import annotations

import hashlib
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgerec.data.download import download
from edgerec.errors import DownloadError, StorageError

if TYPE_CHECKING:
    from tests.data.conftest import Host

CONTENT = np.random.default_rng(0).bytes(1_000_000)
DIGEST = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def url(host: Host) -> str:
    host.files["/file.zip"] = CONTENT
    return f"{host.url}/file.zip"


def test_a_whole_file_takes_its_name_and_leaves_nothing_beside_it(url: str, tmp_path: Path) -> None:
    lines: list[str] = []
    path = download(url, tmp_path / "new" / "file.zip", digest=DIGEST, progress=lines.append)
    assert path.read_bytes() == CONTENT
    assert [entry.name for entry in path.parent.iterdir()] == ["file.zip"]
    assert lines == [f"downloading {url}"]


def test_a_cut_connection_is_resumed_where_it_was_cut(url: str, host: Host, tmp_path: Path) -> None:
    host.cuts = [400_000, 300_000]
    assert download(url, tmp_path / "f", digest=DIGEST).read_bytes() == CONTENT
    assert [wanted for _, wanted in host.asked] == [None, "bytes=400000-", "bytes=700000-"]


def test_a_server_that_ignores_ranges_sends_the_whole_again(url: str, host: Host, tmp_path: Path) -> None:
    host.cuts, host.ignores_range = [400_000], True
    assert download(url, tmp_path / "f", digest=DIGEST).read_bytes() == CONTENT
    assert host.asked[1][1] == "bytes=400000-"


def test_what_came_before_too_many_cuts_serves_the_next_call(url: str, host: Host, tmp_path: Path) -> None:
    host.cuts = [100_000, 100_000, 100_000]
    with pytest.raises(DownloadError, match="cut after 300,000 of 1,000,000 bytes, 3 times; the part"):
        download(url, tmp_path / "f", digest=DIGEST)
    assert not (tmp_path / "f").exists()
    assert download(url, tmp_path / "f", digest=DIGEST).read_bytes() == CONTENT
    assert host.asked[-1][1] == "bytes=300000-"


def test_a_partial_file_that_is_whole_is_taken(url: str, tmp_path: Path) -> None:
    (tmp_path / "f.part").write_bytes(CONTENT)
    assert download(url, tmp_path / "f", digest=DIGEST).read_bytes() == CONTENT


def test_a_partial_file_that_is_too_long_is_dropped(url: str, tmp_path: Path) -> None:
    (tmp_path / "f.part").write_bytes(CONTENT + b"more")
    assert download(url, tmp_path / "f", digest=DIGEST).read_bytes() == CONTENT


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_a_file_with_another_digest_is_refused_and_removed(url: str, tmp_path: Path, algorithm: str) -> None:
    with pytest.raises(DownloadError, match=rf"file\.zip: its {algorithm} is .* expected 0f0f; .* removed"):
        download(url, tmp_path / "f", digest=f"{algorithm}:0f0f")
    assert not list(tmp_path.iterdir())


def test_a_stale_partial_file_never_passes(url: str, tmp_path: Path) -> None:
    (tmp_path / "f.part").write_bytes(b"something else")
    with pytest.raises(DownloadError, match="removed"):
        download(url, tmp_path / "f", digest=DIGEST)
    assert download(url, tmp_path / "f", digest=DIGEST).read_bytes() == CONTENT


def test_a_missing_file_gives_the_servers_answer(host: Host, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"/none: the server answers 404 Not Found"):
        download(f"{host.url}/none", tmp_path / "f")
    assert len(host.asked) == 1


def test_a_host_that_does_not_answer_is_given_up_after_the_timeout(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        with pytest.raises(DownloadError, match=r"no answer within 0\.2 s"):
            download(f"http://127.0.0.1:{silent.getsockname()[1]}/f", tmp_path / "f", timeout=0.2)
        assert time.monotonic() - start < 3


def test_a_closed_port_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(DownloadError, match="refused"):
        download(f"http://127.0.0.1:{port}/f", tmp_path / "f")


def test_a_place_that_cannot_be_written_is_a_storage_error(url: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot write"):
        download(url, tmp_path / "file" / "f")
