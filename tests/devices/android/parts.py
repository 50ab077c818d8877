"""What the tests fetch: Android's debug daemon from Debian, and onnxruntime for Android from a package of npm.

The package is a third party's copy of the official archive, pinned by its sha256; EdgeRec itself fetches the official
one.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from edgerec.files import cache_folder, sha256
from edgerec_devices.adb.parts import LIBRARY
from edgerec_devices.arm64.image import KEYS, command, is_debian, mirror
from tests.devices.android.unversion import unversioned

PACKAGE, PACKAGE_SHA256 = (
    "com.github.asus4.onnxruntime@0.4.9",
    "e59788788818fdde1b2e522e766a21ba0f7d8391de55737abf81e32cc801785d",
)
AAR = "package/Plugins/Android/onnxruntime.aar"
ABI = "x86_64"
SHIMMED = ("libc", "libm", "libdl", "liblog", "libandroid")
"""Android's libraries that onnxruntime's asks for by name."""
SUITE = "bookworm"
BACKPORTS = ("adbd", "android-libbase", "android-libboringssl", "android-libcutils", "android-liblog")
PACKAGES = (
    *("libbrotli1", "libcap2", "libgcrypt20", "libgpg-error0", "liblz4-1", "liblzma5", "libprotobuf32"),
    *("libsystemd0", "libzstd1"),
)
TOOLS = {
    **dict.fromkeys(("adb",), "android-tools: apt install adb"),
    **dict.fromkeys(("gcc",), "a C compiler: apt install gcc libc6-dev"),
    **dict.fromkeys(("npm",), "npm: apt install npm"),
    **dict.fromkeys(("javac", "java"), "a JDK: apt install openjdk-17-jdk-headless"),
    **dict.fromkeys(("unshare", "nsenter", "ip", "mount"), "apt install util-linux iproute2 mount"),
}
PLACES = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def lacking(what: str) -> NoReturn:
    """CI installs everything: there, a test that cannot run has failed."""
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)


def need(*tools: str) -> None:
    """Skip, loudly, where one of them is missing."""
    for tool in tools:
        if shutil.which(tool, path=PLACES) is None:
            lacking(f"there is no {tool} on this machine: {TOOLS[tool]}")


def android_archive() -> Path:
    """onnxruntime's archive for Android; fetched once for all runs."""
    need("npm")
    return kept("onnxruntime-android.aar", _fetch_archive)


def daemon() -> Path:
    """The root of the unpacked packages of Android's debug daemon; fetched once for all runs."""
    if not is_debian():
        lacking(f"Android's debug daemon comes from a mirror of Debian, whose keys are in {KEYS}: this is no Debian")
    return kept("adbd", _fetch_daemon)


def shim_libraries(folder: Path) -> Path:
    """What Android's system has, for Linux: `shim.c` as its C library, the others empty."""
    need("gcc")
    folder.mkdir()
    build = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Wno-builtin-declaration-mismatch"]
    build += ["-Wl,--no-as-needed"]  # each brings glibc's own of all of them
    for name in SHIMMED:
        source = str(Path(__file__).with_name("shim.c")) if name == "libc" else "/dev/null"
        subprocess.run(
            [*build, "-x", "c", source, "-o", str(folder / f"{name}.so"), "-lm", "-ldl", "-lpthread"], check=True
        )
    return folder


def _fetch_archive(target: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        command(["npm", "pack", PACKAGE, "--silent", "--pack-destination", folder])
        (packed,) = Path(folder).glob("*.tgz")
        assert sha256(packed) == PACKAGE_SHA256, "the package is another than the one that was looked at"
        with tarfile.open(packed) as content, target.open("wb") as stream:
            archive = content.extractfile(AAR)
            assert archive is not None
            shutil.copyfileobj(archive, stream)


def linux_archive(archive: Path, target: Path) -> Path:
    """The same with a library for Android on x86-64 that runs on Linux, beside `shim_libraries`."""
    wanted = f"jni/{ABI}/{LIBRARY}"
    with zipfile.ZipFile(archive) as given, zipfile.ZipFile(target, "w") as made:
        made.writestr(wanted, unversioned(given.read(wanted)))
        for name in given.namelist():
            if name.startswith("headers/"):
                made.writestr(name, given.read(name))
    return target


def _fetch_daemon(target: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        (state / "lists" / "partial").mkdir(parents=True)
        (state / "cache" / "archives" / "partial").mkdir(parents=True)
        (state / "status").touch()
        source = f"deb [signed-by={KEYS}] {mirror()}"
        (state / "sources.list").write_text(f"{source} {SUITE} main\n{source} {SUITE}-backports main\n")
        options = {
            "APT::Sandbox::User": "root",  # the folder is the user's own
            "Acquire::Languages": "none",
            "Acquire::Retries": "2",
            "Dir::State": folder,
            "Dir::State::lists": str(state / "lists"),
            "Dir::State::status": str(state / "status"),
            "Dir::Cache": str(state / "cache"),
            "Dir::Etc::SourceList": str(state / "sources.list"),
            "Dir::Etc::SourceParts": "-",
        }
        apt = ["apt-get", *(word for name, value in options.items() for word in ("-o", f"{name}={value}")), "--quiet=2"]
        command([*apt, "update"])
        names = [*(f"{name}/{SUITE}-backports" for name in BACKPORTS), *(f"{name}/{SUITE}" for name in PACKAGES)]
        command([*apt, "download", *names], cwd=state)
        for package in state.glob("*.deb"):
            command(["dpkg-deb", "-x", package, target])


def kept(name: str, make: Callable[[Path], None]) -> Path:
    """What was made once, by one of the test processes, under a temporary name until it is whole."""
    place = cache_folder("tests") / name
    with _locked(place):
        if not place.exists():
            part = place.with_name(f".{name}.part")
            shutil.rmtree(part, ignore_errors=True)
            make(part)
            part.rename(place)
    return place


@contextmanager
def _locked(place: Path) -> Iterator[None]:
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_name(f".{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
