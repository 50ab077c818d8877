"""Debian packages of arm64, fetched with an apt state of their own and unpacked: none of their programs runs here."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

from edgerec.errors import BenchError

SUITE = "bookworm"
"""Debian 12, as Raspberry Pi OS is: the stand-in is the same whatever this machine runs."""
KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
PLACES = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
"""mkfs is outside of most users' PATH."""


def command(words: Sequence[str | Path], *, cwd: Path | None = None) -> str:
    """What a program says. Raises BenchError with its last line where it fails."""
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
    """Whether this machine's apt fetches from a mirror of Debian."""
    try:
        return platform.freedesktop_os_release().get("ID") == "debian" and KEYS.exists()
    except OSError:
        return False


def mirror() -> str:
    """The address that this machine's own apt fetches from. Raises BenchError where it has none."""
    releases = {platform.freedesktop_os_release().get("VERSION_CODENAME"), "stable", "testing", "unstable", "sid"}
    targets = command(["apt-get", "indextargets", "--format", "$(COMPONENT) $(RELEASE) $(REPO_URI)"])
    # Debian's own: other archives carry other components, security updates other releases.
    rows = [row.split() for row in targets.splitlines()]
    found = [row[2] for row in rows if len(row) == 3 and row[0] == "main" and row[1] in releases]
    if not found:
        raise BenchError("this machine's apt has no mirror of Debian; add one to /etc/apt/sources.list.d")
    return found[0]


class Packages:
    """An archive seen as an arm64 machine sees it; what is fetched lies in one folder."""

    def __init__(self, folder: Path) -> None:
        """Read the archive's index. Raises BenchError where that fails."""
        self._state = folder
        for name in ("lists/partial", "cache/archives/partial"):
            (folder / name).mkdir(parents=True)
        (folder / "status").touch()
        (folder / "sources.list").write_text(f"deb [arch=arm64 signed-by={KEYS}] {mirror()} {SUITE} main\n")
        self._apt("update")

    def fetch(self, *names: str) -> list[Path]:
        """Packages with all that they need. Raises BenchError where that fails."""
        self._apt("--yes", "--download-only", "install", *names)
        return sorted((self._state / "cache" / "archives").glob("*.deb"))

    def download(self, name: str) -> Path:
        """One package alone. Raises BenchError where that fails."""
        folder = self._state / name
        folder.mkdir()
        self._apt("download", name, cwd=folder)
        (path,) = folder.glob("*.deb")
        return path

    def needed_by(self, name: str) -> str:
        """The first package that another asks for: of a metapackage, what it stands for."""
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
    """A package's files, or those of these patterns alone. Raises BenchError."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as archive:
        wanted = ["--wildcards", *paths] if paths else []
        words = ["tar", "-C", str(root), "--keep-directory-symlink", "-x", *wanted]
        done = subprocess.run(words, stdin=archive.stdout, capture_output=True, text=True, check=False)
    if done.returncode != 0 or archive.returncode != 0:
        raise BenchError(f"{package.name} cannot be unpacked: {done.stderr.strip() or 'it is damaged'}")


def version(package: Path) -> tuple[str, str]:
    """Its name and its version."""
    name, _, number = command(["dpkg-deb", "--show", package]).strip().partition("\t")
    return name, number
