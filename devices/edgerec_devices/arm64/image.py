"""The kernel and disk of the emulated machine: Debian, sshd, Python and onnxruntime.

They are unpacked from packages, none of whose programs runs on this machine.
"""

from __future__ import annotations

import gzip
import os
import platform
import re
import shutil
import subprocess
import zipfile
from collections.abc import Sequence
from pathlib import Path

from edgerec.errors import BenchError
from edgerec_devices.facts import Platform
from edgerec_devices.ssh.environment import Target, download

SUITE = "bookworm"
"""Debian 12, like Raspberry Pi OS: the emulated machine does not depend on this machine's system."""
KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
PLACES = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
"""A PATH with mkfs, which most users' PATH does not reach."""


def command(words: Sequence[str | Path], *, cwd: Path | None = None) -> str:
    """Run a program and return its output. Raises BenchError with its last line if it fails."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "PATH": PLACES}
    done = subprocess.run(
        list(map(str, words)),
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        env=environment,
    )
    if done.returncode != 0:
        lines = (done.stdout + done.stderr).strip().splitlines() or [f"status {done.returncode}, and it said nothing"]
        raise BenchError(f"{words[0]} failed: {lines[-1]}")
    return done.stdout


def is_debian() -> bool:
    """Return true if this machine's apt uses a mirror of Debian."""
    try:
        return platform.freedesktop_os_release().get("ID") == "debian" and KEYS.exists()
    except OSError:
        return False


def mirror() -> str:
    """Return the address of apt's mirror of Debian. Raises BenchError if there is none."""
    releases = {platform.freedesktop_os_release().get("VERSION_CODENAME"), "stable", "testing", "unstable", "sid"}
    targets = command(["apt-get", "indextargets", "--format", "$(COMPONENT) $(RELEASE) $(REPO_URI)"])
    # Only Debian's main archive: other archives have other components, security updates other releases.
    rows = [row.split() for row in targets.splitlines()]
    found = [row[2] for row in rows if len(row) == 3 and row[0] == "main" and row[1] in releases]
    if not found:
        raise BenchError("this machine's apt has no mirror of Debian; add one to /etc/apt/sources.list.d")
    return found[0]


class Packages:
    """Debian's packages for arm64, downloaded into one folder."""

    def __init__(self, folder: Path) -> None:
        """Download the archive's index. Raises BenchError if that fails."""
        self._state = folder
        for name in ("lists/partial", "cache/archives/partial"):
            (folder / name).mkdir(parents=True)
        (folder / "status").touch()
        (folder / "sources.list").write_text(f"deb [arch=arm64 signed-by={KEYS}] {mirror()} {SUITE} main\n")
        self._apt("update")

    def fetch(self, *names: str) -> list[Path]:
        """Download packages with their dependencies. Raises BenchError if that fails."""
        self._apt("--yes", "--download-only", "install", *names)
        return sorted((self._state / "cache" / "archives").glob("*.deb"))

    def download(self, name: str) -> Path:
        """Download one package without its dependencies. Raises BenchError if that fails."""
        folder = self._state / name
        folder.mkdir()
        self._apt("download", name, cwd=folder)
        (path,) = folder.glob("*.deb")
        return path

    def needed_by(self, name: str) -> str:
        """Return the first dependency of a package: for a metapackage, the package that it stands for."""
        said = self._apt("depends", name, program="apt-cache")
        return next(line.split()[1] for line in said.splitlines() if "Depends:" in line)

    def _apt(self, *words: str, program: str = "apt-get", cwd: Path | None = None) -> str:
        state = self._state
        options = {
            "APT::Architecture": "arm64",
            "APT::Architectures::": "arm64",
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "root",  # the folder is the user's own
            "Acquire::Languages": "none",
            "Acquire::Retries": "2",
            "Dir::State": str(state),
            "Dir::State::lists": str(state / "lists"),
            "Dir::State::status": str(state / "status"),
            "Dir::Cache": str(state / "cache"),
            "Dir::Etc::SourceList": str(state / "sources.list"),
            "Dir::Etc::SourceParts": "-",
        }
        given = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        return command([program, *given, "--quiet=2", *words], cwd=cwd)


def unpack(package: Path, root: Path, *paths: str) -> None:
    """Unpack a package's files, or only those that match the patterns. Raises BenchError."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as archive:
        wanted = ["--wildcards", *paths] if paths else []
        words = ["tar", "-C", str(root), "--keep-directory-symlink", "-x", *wanted]
        done = subprocess.run(words, stdin=archive.stdout, capture_output=True, text=True, check=False)
    if done.returncode != 0 or archive.returncode != 0:
        raise BenchError(f"{package.name} cannot be unpacked: {done.stderr.strip() or 'it is damaged'}")


def version(package: Path) -> tuple[str, str]:
    """Return the name and version of a package."""
    name, _, number = command(["dpkg-deb", "--show", package]).strip().partition("\t")
    return name, number


PYTHON = (3, 11)
TARGET = Target(Platform("Linux", "aarch64", 64, PYTHON, musl=False), ("glibc", "2.36"))
"""The description that the machine's remote agent gives: Debian 12 on arm64."""
USER = "pi"
UID = (os.getuid() if hasattr(os, "getuid") else 0) or 1000
"""The user's id: mkfs copies the owners of files, which only root can change."""
INSTALLED = (
    *("base-files", "libc6", "libc-bin", "dash", "coreutils", "tar", "libstdc++6", "openssh-server"),
    *("python3-minimal", "libpython3-stdlib"),
)
USELESS = (
    *("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/perl", "usr/share/perl5", "usr/share/info"),
    *("usr/lib/aarch64-linux-gnu/perl", "usr/lib/aarch64-linux-gnu/perl-base", "usr/lib/aarch64-linux-gnu/gconv"),
    *("usr/lib/python3.11/lib2to3", "usr/lib/python3.11/distutils", "usr/lib/python3.11/test", "usr/lib/udev"),
)
DISK_BYTES = 8 << 30
"""Size of the disk, with space for bundles. The image is sparse: it takes the space of its content."""
MODULES = (
    *("drivers/virtio/virtio", "drivers/virtio/virtio_ring", "drivers/virtio/virtio_pci_legacy_dev"),
    *("drivers/virtio/virtio_pci_modern_dev", "drivers/virtio/virtio_pci", "drivers/block/virtio_blk"),
    *("net/core/failover", "drivers/net/net_failover", "drivers/net/virtio_net", "drivers/char/hw_random/virtio-rng"),
)
"""Kernel modules in the order of their dependencies."""

MOST_STALLED = 10
"""Maximum percentage of ten seconds in which all processes wait for evicted pages; it is 0 if the memory suffices."""

READY, PREPARED, FIRST = "EDGEREC-READY", "EDGEREC-PREPARED", "edgerec.first"
"""Console messages once sshd listens and after the first start; the kernel argument that requests the first start."""
OUT_OF_MEMORY = "Out of memory: Killed process"
"""The kernel's console message when memory runs out."""

COMPILED = (
    "import numpy, onnxruntime, csv, decimal, email.parser, hashlib, importlib.metadata, json, platform, random;"
    "import secrets, shutil, signal, statistics, subprocess, sysconfig, tempfile, threading, zipfile;"
    "sysconfig.get_config_vars()"
)
"""Imports that the first start compiles: later starts discard what they write."""


GUEST = Path(__file__).parent / "guest"
"""The emulated machine's own scripts and settings, with names of constants between @."""


def guest_file(name: str) -> str:
    """Return a file of the emulated machine with the values of its constants."""
    values = {
        "MODULES": " ".join(Path(name).name for name in MODULES),
        **{"FIRST": FIRST, "USER": USER, "COMPILED": COMPILED, "PREPARED": PREPARED, "READY": READY},
        **{"MOST_STALLED": str(MOST_STALLED), "OUT_OF_MEMORY": OUT_OF_MEMORY},
    }
    return re.sub(r"@([A-Z_]+)@", lambda found: values[found[1]], (GUEST / name).read_text())


class Image:
    """The files of an emulated machine in a folder: `kernel`, `initial`, `disk`, `key`, `host.pub`.

    Attributes:
        contents: versions of the packages and wheels, by name.
    """

    def __init__(self, folder: Path, scratch: Path) -> None:
        """Download the index of packages. Raises BenchError."""
        self._folder, self._root, self._scratch = folder, scratch / "root", scratch
        self._packages = Packages(scratch / "apt")
        self.contents: dict[str, str] = {}

    def fetch(self) -> None:
        """Download and unpack the system's files. Raises BenchError."""
        root = self._root
        for name in ("bin", "sbin", "lib"):
            (root / "usr" / name).mkdir(parents=True)
            (root / name).symlink_to(f"usr/{name}")
        for name in ("dev", "proc", "sys", "tmp", "run", "root", "etc/ssh", f"home/{USER}/.ssh"):
            (root / name).mkdir(parents=True)
        for package in self._packages.fetch(*INSTALLED):
            self._take(package, root)
        for name in USELESS:
            shutil.rmtree(root / name, ignore_errors=True)
        self._kernel()

    def fill(self) -> None:
        """Add users, keys, sshd's settings and the measuring environment. Raises BenchError."""
        root, home = self._root, self._root / "home" / USER
        for name, text in {
            "etc/passwd": f"root:x:0:0::/root:/bin/sh\nsshd:x:105:65534::/run/sshd:/usr/sbin/nologin\n"
            f"{USER}:x:{UID}:{UID}::/home/{USER}:/bin/sh\n",
            "etc/group": f"root:x:0:\n{USER}:x:{UID}:\nnogroup:x:65534:\n",
            "etc/shadow": f"root:*:19000:0:99999:7:::\n{USER}:*:19000:0:99999:7:::\nsshd:!:19000::::::\n",
            "etc/ssh/sshd_config": guest_file("sshd_config"),
            "usr/sbin/start": guest_file("start"),
        }.items():
            (root / name).write_text(text)
        (root / "usr/sbin/start").chmod(0o755)
        for name, target in {"usr/bin/sh": "dash", "usr/bin/python3": "python3.11"}.items():
            if not (root / name).is_symlink():
                (root / name).symlink_to(target)
        for name in ("key", "host"):
            command(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "arm64", "-f", str(self._folder / name)])
        (self._folder / "host").rename(root / "etc/ssh/host")
        shutil.copy(self._folder / "key.pub", home / ".ssh" / "authorized_keys")
        self._environment(home / ".cache" / "edgerec" / "environments" / TARGET.key)
        if hasattr(os, "getuid") and os.getuid() == 0:
            for path in [home, *home.rglob("*")]:
                os.chown(path, UID, UID, follow_symlinks=False)

    def write(self) -> None:
        """Write the disk. Raises BenchError."""
        disk = self._folder / "disk"
        with disk.open("xb") as stream:
            stream.truncate(DISK_BYTES)
        options = ["-q", "-F", "-O", "^has_journal", "-m", "0", "-i", "65536"]
        command(["mkfs.ext4", *options, "-d", str(self._root), str(disk)])

    def _take(self, package: Path, root: Path, *paths: str) -> None:
        unpack(package, root, *paths)
        name, number = version(package)
        self.contents[name] = number

    def _kernel(self) -> None:
        """Add the kernel, and the initial file system that mounts the disk."""
        scratch, initial = self._scratch / "kernel", self._scratch / "initial"
        for name in ("bin", "modules", "disk"):
            (initial / name).mkdir(parents=True)
        scratch.mkdir()
        package = self._packages.download(self._packages.needed_by("linux-image-cloud-arm64"))
        wanted = [f"*/kernel/{name}.ko" for name in MODULES]
        self._take(package, scratch, "./boot/vmlinuz*", *wanted)
        self._take(self._packages.download("busybox-static"), scratch, "*bin/busybox")
        for name in MODULES:
            (module,) = scratch.glob(f"lib/modules/*/kernel/{name}.ko")
            shutil.copy(module, initial / "modules")
        (kernel,) = scratch.glob("boot/vmlinuz*")
        shutil.copy(kernel, self._folder / "kernel")
        busybox = next(path for path in scratch.rglob("busybox") if path.is_file())
        for place in (initial / "bin" / "busybox", self._root / "usr" / "bin" / "busybox"):
            shutil.copy(busybox, place)
        (initial / "init").write_text(guest_file("init"))
        (initial / "init").chmod(0o755)
        names = "\n".join(sorted(path.relative_to(initial).as_posix() for path in initial.rglob("*")))
        cpio = ["cpio", "--create", "--format=newc", "--quiet", "--owner=+0:+0"]
        packed = subprocess.run(cpio, input=names.encode(), capture_output=True, cwd=initial, check=False)
        if packed.returncode != 0:
            raise BenchError(f"cpio failed: {packed.stderr.decode(errors='replace').strip()}")
        (self._folder / "initial").write_bytes(gzip.compress(packed.stdout, 1, mtime=0))

    def _environment(self, home: Path) -> None:
        """Create the environment that Ssh looks for, without venv and pip, which would take minutes in an emulator."""
        site = home / "lib" / f"python{PYTHON[0]}.{PYTHON[1]}" / "site-packages"
        site.mkdir(parents=True)
        (home / "bin").mkdir()
        (home / "bin" / "python").symlink_to("/usr/bin/python3")
        (home / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
        wheels = self._scratch / "wheels"
        for wheel in download(TARGET, wheels):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(site)
            name, number = wheel.name.split("-")[:2]
            self.contents[f"{name} (wheel)"] = number


def sources() -> Sequence[Path]:
    """Return the source files that determine an image."""
    return [Path(__file__), *sorted(GUEST.iterdir())]
