"""Setup of the emulated machine in the user's cache folder: half a minute, and 75 MB of downloads, once."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from edgerec.budget import format_bytes
from edgerec.errors import BenchError
from edgerec.files import storage_failure, write_json
from edgerec_devices.arm64.image import PLACES, SUITE, TARGET, Image, is_debian, sources
from edgerec_devices.arm64.vm import EMULATOR, first_start
from edgerec_devices.protocol import Missing, Tell, setup_folder
from edgerec_devices.ssh.environment import pins

NAME = "arm64"
COMMAND = f"edgerec devices setup {NAME}"
CONTENTS = "contents.json"
"""File that is written last: without it the setup is incomplete."""
PROGRAMS = {
    EMULATOR: "qemu-system-arm ipxe-qemu- qemu-efi-aarch64-",
    "cpio": "cpio",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "mkfs.ext4": "e2fsprogs",
    "dpkg-deb": "dpkg",
    "setpriv": "util-linux",
}
"""Required programs and their Debian packages. A package with a minus is a recommendation that is not installed."""
BYTES = 1 << 30
"""Required free space: the image takes a third of it, its packages another third."""


def home() -> Path:
    """Return the folder of the emulated machine."""
    return setup_folder(NAME)


def missing() -> list[Missing]:
    """List missing programs, and the emulated machine if it is not set up."""
    if (foreign := _not_debian()) is not None:
        return [foreign]
    found = _missing_programs()
    if not is_set_up():
        found.append(Missing("the emulated machine, with this machine's versions of numpy and onnxruntime", COMMAND))
    return found


def is_set_up() -> bool:
    """Return true if the machine is set up with the current versions of EdgeRec, numpy and onnxruntime."""
    try:
        return bool(json.loads((home() / CONTENTS).read_text())["key"] == key())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def key() -> str:
    """Return a hash of everything that determines the image."""
    digest = hashlib.sha256(json.dumps([SUITE, TARGET.key, pins()]).encode())
    for path in sources():
        digest.update(path.read_bytes())
    return digest.hexdigest()


def set_up(tell: Tell) -> None:
    """Set up the emulated machine unless it is set up already. Raises BenchError, StorageError."""
    if (foreign := _not_debian()) is not None:
        raise BenchError(f"{foreign.what}: {foreign.fix}")
    for part in _missing_programs():
        raise BenchError(f"there is no {part.what} on this machine: {part.fix}")
    if is_set_up():
        return
    place = home()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        if (free := shutil.disk_usage(place.parent).free) < BYTES:
            raise BenchError(f"{format_bytes(BYTES)} are needed in {place.parent}, {format_bytes(free)} are free")
        with tempfile.TemporaryDirectory(prefix=f".{NAME}-", dir=place.parent) as scratch:
            folder = Path(scratch, "image")
            folder.mkdir()
            _make(folder, Path(scratch), tell)
            _put(folder, place)
    except OSError as error:
        storage_failure(place, error, "make")


def _make(folder: Path, scratch: Path, tell: Tell) -> None:
    tell(f"reading the index of Debian {SUITE}")
    image = Image(folder, scratch)
    tell("fetching and unpacking Debian for arm64")
    image.fetch()
    tell(f"fetching {' and '.join(pins())} for arm64")
    image.fill()
    tell("writing the disk")
    image.write()
    tell("starting it for the first time")
    first_start(folder, scratch)
    write_json(folder / CONTENTS, {"key": key(), "packages": image.contents})


def _put(folder: Path, place: Path) -> None:
    """Move a finished image to its place and remove the previous one, unless another process was faster."""
    aside = folder.parent / "before"
    with suppress(FileNotFoundError):
        place.rename(aside)
    try:
        folder.rename(place)
    except OSError:
        if not is_set_up():
            raise


def _missing_programs() -> list[Missing]:
    found = [(name, package) for name, package in PROGRAMS.items() if shutil.which(name, path=PLACES) is None]
    if not found:
        return []
    packages = " ".join(dict.fromkeys(package for _, package in found))
    command = f"sudo apt-get install --no-install-recommends {packages}"
    return [Missing(", ".join(name for name, _ in found), command)]


def _not_debian() -> Missing | None:
    if is_debian():
        return None
    system = f"{platform.system()} {platform.machine()}"
    return Missing(
        f"the emulated machine is built from Debian's packages, by Debian's apt, and this is {system}",
        "use Debian 12 or newer",
    )
