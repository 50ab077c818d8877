"""The files that Android devices need: onnxruntime's library and the native runner in C, stored by processor."""

from __future__ import annotations

import os
import secrets
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from edgerec.errors import BenchError
from edgerec.files import storage_failure
from edgerec_devices.protocol import Missing, Tell, setup_folder

SOURCES = Path(__file__).parents[1] / "runner"
RUNNER = "edgerec-runner"
LIBRARY = "libonnxruntime.so"
FLAGS = (
    *("-std=c11", "-O2", "-D_GNU_SOURCE", "-D_FILE_OFFSET_BITS=64"),
    *("-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror"),
)


def build(compiler: Sequence[str], headers: Path, out: Path, *flags: str) -> Path:
    """Compile the runner.

    Args:
        compiler: command of the compiler: ['cc'], or one of Android's NDK.
        headers: the folder with onnxruntime_c_api.h, 1.18 or newer. It is not part of EdgeRec, but of onnxruntime's
            archive for Android.
        out: path of the program.
        flags: additional flags.

    Returns:
        `out`.

    Raises:
        BenchError: there is no such compiler, or it failed.
    """
    sources = sorted(map(str, SOURCES.glob("*.c")))
    command = [*compiler, *FLAGS, *flags, "-isystem", str(headers), *sources, "-ldl", "-o", str(out)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise BenchError(f"there is no {compiler[0]} to build the runner with") from None
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        reason = next((line for line in lines if "error" in line), lines[-1] if lines else f"status {done.returncode}")
        raise BenchError(f"{compiler[0]} cannot build the runner: {reason}")
    return out


NAME = "adb"
AAR_VARIABLE, RUNNER_VARIABLE = "EDGEREC_ANDROID_AAR", "EDGEREC_ANDROID_RUNNER"
NDK_VARIABLES = ("ANDROID_NDK_HOME", "ANDROID_NDK_ROOT")
API = 24
"""Android 7, the oldest version that onnxruntime's library supports, and the first whose adb returns exit statuses."""
HEADER = "onnxruntime_c_api.h"


class MissingPartError(BenchError):
    """A file that devices need is missing on this machine."""


class Archive(NamedTuple):
    """A published file."""

    url: str
    digest: str


ONNXRUNTIME = Archive(
    "https://repo1.maven.org/maven2/com/microsoft/onnxruntime/onnxruntime-android/1.29.0/onnxruntime-android-1.29.0.aar",
    "sha256:e97540ca78fe36f6fe2013f82843414fb843b6c7681fb04644cba5e1406662dd",
)
"""com.microsoft.onnxruntime:onnxruntime-android, MIT licence: 52 MB, libraries of four processors and C headers."""

COMPILERS = {
    "arm64-v8a": "aarch64-linux-android",
    "armeabi-v7a": "armv7a-linux-androideabi",
    "x86_64": "x86_64-linux-android",
    "x86": "i686-linux-android",
}
"""The NDK's names of Android's ABIs."""
ELF_MACHINES = {183: "arm64-v8a", 40: "armeabi-v7a", 62: "x86_64", 3: "x86"}


class RuntimeFiles(NamedTuple):
    """The files that are sent to a device."""

    runner: Path
    library: Path


def runtime_files(abi: str) -> RuntimeFiles:
    """Return the files for a device's ABI. Raises MissingPartError with the fix if one is missing."""
    found = RuntimeFiles(setup_folder(NAME) / abi / RUNNER, setup_folder(NAME) / abi / LIBRARY)
    if not setup_folder(NAME).exists():
        raise MissingPartError(f"onnxruntime's library for Android is not here: {_setup_command()}")
    if not found.library.exists():
        raise MissingPartError(f"the device is {abi!r}, and onnxruntime has no library for that; there are: {_known()}")
    if not found.runner.exists():
        raise MissingPartError(
            f"there is no runner for {abi!r} here, only for: {_known()}; {_setup_command(again=True)}"
        )
    return found


def missing() -> list[Missing]:
    """List what this machine needs for Android devices and does not have."""
    client = [] if shutil.which("adb") else [Missing("Android's client adb", "sudo apt-get install adb")]
    ready = any(setup_folder(NAME).glob(f"*/{RUNNER}"))
    return client + ([] if ready else [Missing("onnxruntime's library for Android, and the runner", _setup_command())])


def set_up(tell: Tell) -> None:
    """Install onnxruntime's library for Android and the runner.

    The library is downloaded, or taken from `$EDGEREC_ANDROID_AAR`; the runner is built with the NDK, or taken from
    `$EDGEREC_ANDROID_RUNNER`.

    Raises:
        BenchError: neither an NDK nor a runner is named, or the compiler fails.
        DownloadError: the library cannot be downloaded, or has another sha256.
        StorageError: a file system operation failed.
    """
    place = setup_folder(NAME)
    if place.exists():
        return
    given, compilers = os.environ.get(RUNNER_VARIABLE), _compilers()
    if not given and not compilers:
        raise BenchError(
            "the runner for Android is built with Google's NDK; install it and name its folder in "
            f"{NDK_VARIABLES[0]}, or name a built runner in {RUNNER_VARIABLE}, and run this again"
        )
    part = place.with_name(f".{NAME}.{secrets.token_hex(4)}.part")
    try:
        _unpack(_archive(tell), part)
        for abi, compiler in compilers.items():
            tell(f"building the runner for {abi}")
            build([str(compiler)], part / "headers", part / abi / RUNNER, "-pie", "-fPIE")
        if given:
            _take(Path(given), part)
        part.rename(place)
    except OSError as error:
        storage_failure(part, error, "write")
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _archive(tell: Tell) -> Path:
    """Return onnxruntime's archive: the named one, or the published one, downloaded if it is missing."""
    if named := os.environ.get(AAR_VARIABLE):
        return Path(named)
    from edgerec.data.download import download  # imports all of edgerec.data, which measuring does not need

    path = setup_folder(NAME).with_name(ONNXRUNTIME.url.rpartition("/")[2])
    return path if path.exists() else download(ONNXRUNTIME.url, path, digest=ONNXRUNTIME.digest, progress=tell)


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack the libraries by ABI, and the C headers."""
    try:
        with zipfile.ZipFile(archive) as content:
            names = content.namelist()
            for abi in COMPILERS:
                if (name := f"jni/{abi}/{LIBRARY}") in names:
                    _write(content, name, folder / abi / LIBRARY)
            for name in names:
                if name.startswith("headers/") and name.endswith(".h"):
                    _write(content, name, folder / "headers" / Path(name).name)
    except FileNotFoundError:
        raise BenchError(f"there is no {archive}; name onnxruntime's archive for Android in {AAR_VARIABLE}") from None
    except zipfile.BadZipFile as error:
        raise BenchError(f"{archive} is no archive of onnxruntime for Android ({error}); fetch it again") from None
    if not (folder / "headers" / HEADER).exists() or not list(folder.glob(f"*/{LIBRARY}")):
        raise BenchError(f"{archive} has no {LIBRARY} or no {HEADER} in it; it must be onnxruntime's for Android")


def _write(content: zipfile.ZipFile, name: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with content.open(name) as source, path.open("wb") as target:
        shutil.copyfileobj(source, target)


def _compilers() -> dict[str, Path]:
    """Return the NDK's compilers by ABI; empty if no NDK is named. Raises BenchError if the named folder is no NDK."""
    named = next(filter(None, map(os.environ.get, NDK_VARIABLES)), None)
    if named is None:
        return {}
    host = {"darwin": "darwin-x86_64", "win32": "windows-x86_64"}.get(sys.platform, "linux-x86_64")
    folder, suffix = (
        Path(named, "toolchains", "llvm", "prebuilt", host, "bin"),
        ".cmd" if sys.platform == "win32" else "",
    )
    found = {abi: folder / f"{target}{API}-clang{suffix}" for abi, target in COMPILERS.items()}
    found = {abi: compiler for abi, compiler in found.items() if compiler.exists()}
    if not found:
        raise BenchError(
            f"{named} is no NDK for this machine: there is no compiler in {folder}; correct {NDK_VARIABLES[0]}"
        )
    return found


def _take(runner: Path, folder: Path) -> None:
    """Copy a built runner into the folder of its ABI, which its ELF header names. Raises BenchError if it is none."""
    try:
        with runner.open("rb") as stream:
            head = stream.read(20)
    except FileNotFoundError:
        raise BenchError(f"there is no {runner}; name a runner in {RUNNER_VARIABLE}") from None
    machine = struct.unpack_from("<H", head, 18)[0] if head[:4] == b"\x7fELF" and len(head) == 20 else None
    if machine not in ELF_MACHINES:
        raise BenchError(f"{runner} is no program for Android; name a runner in {RUNNER_VARIABLE}")
    target = folder / ELF_MACHINES[machine] / RUNNER
    target.parent.mkdir(exist_ok=True)
    shutil.copyfile(runner, target)
    target.chmod(0o755)


def _known() -> str:
    return ", ".join(sorted(path.parent.name for path in setup_folder(NAME).glob(f"*/{RUNNER}"))) or "none"


def _setup_command(*, again: bool = False) -> str:
    return f"edgerec devices setup {NAME}{' --again' * again} (with {NDK_VARIABLES[0]} set: docs/guide/android.md)"
