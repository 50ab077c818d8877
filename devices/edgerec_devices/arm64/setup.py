"""Making the stand-in, once: half a minute, and 75 MB of downloads; kept in the user's cache folder."""

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
"""Written last: a stand-in without it is none."""
PROGRAMS = {
    EMULATOR: "qemu-system-arm ipxe-qemu- qemu-efi-aarch64-",
    "cpio": "cpio",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "mkfs.ext4": "e2fsprogs",
    "dpkg-deb": "dpkg",
    "setpriv": "util-linux",
}
"""With the packages that bring them. A package with a minus is only recommended, and left out."""
BYTES = 1 << 30
"""Free space asked for: the image takes a third, what it is made of another."""


def home() -> Path:
    """Where the stand-in is kept."""
    return setup_folder(NAME)


def missing() -> list[Missing]:
    """Programs, and the stand-in itself."""
    if (foreign := _not_debian()) is not None:
        return [foreign]
    found = _missing_programs()
    if not is_made():
        found.append(Missing("the emulated machine, with this machine's versions of numpy and onnxruntime", COMMAND))
    return found


def is_made() -> bool:
    """Whether a stand-in of this version of EdgeRec, numpy and onnxruntime is there."""
    try:
        return bool(json.loads((home() / CONTENTS).read_text())["key"] == key())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def key() -> str:
    """Names what goes into a stand-in: another key, another image."""
    digest = hashlib.sha256(json.dumps([SUITE, TARGET.key, pins()]).encode())
    for path in sources():
        digest.update(path.read_bytes())
    return digest.hexdigest()


def set_up(tell: Tell) -> None:
    """Make the stand-in, unless it is there. Raises BenchError, StorageError."""
    if (foreign := _not_debian()) is not None:
        raise BenchError(f"{foreign.what}: {foreign.fix}")
    for part in _missing_programs():
        raise BenchError(f"there is no {part.what} on this machine: {part.fix}")
    if is_made():
        return
    place = home()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        if (free := shutil.disk_usage(place.parent).free) < BYTES:
            raise BenchError(f"{format_bytes(BYTES)} are needed in {place.parent}, {format_bytes(free)} are free")
        with tempfile.TemporaryDirectory(prefix=f".{NAME}-", dir=place.parent) as scratch:
            made = Path(scratch, "made")
            made.mkdir()
            _make(made, Path(scratch), tell)
            _put(made, place)
    except OSError as error:
        storage_failure(place, error, "make")


def _make(made: Path, scratch: Path, tell: Tell) -> None:
    tell(f"reading the index of Debian {SUITE}")
    image = Image(made, scratch)
    tell("fetching and unpacking Debian for arm64")
    image.fetch()
    tell(f"fetching {' and '.join(pins())} for arm64")
    image.fill()
    tell("writing the disk")
    image.write()
    tell("starting it for the first time")
    first_start(made, scratch)
    write_json(made / CONTENTS, {"key": key(), "packages": image.contents})


def _put(made: Path, place: Path) -> None:
    """Let it take its name; the one that stood there is removed, unless another process has just made the same."""
    aside = made.parent / "before"
    with suppress(FileNotFoundError):
        place.rename(aside)
    try:
        made.rename(place)
    except OSError:
        if not is_made():
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
        f"the emulated machine is made of Debian's packages, by Debian's apt, and this is {system}",
        "use Debian 12 or newer",
    )
