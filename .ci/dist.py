"""Build what a release publishes, equal to the byte for equal sources, into a folder.

usage: python .ci/dist.py [--out FOLDER] [PACKAGE ...]      (by default all of them, into dist/)

    edgerec   the source distribution, and the wheel that is built from it
    runtime   the wheel of the runtime alone
    kernel    the wheel of the reader in C, for this machine's kind of CPU
    npm       the npm package
    sbom      what the wheels bring with them, as a bill of materials in CycloneDX, one for each wheel in the folder;
              it follows the day, as pip does

It takes the environment of `make setup`, and for npm Node and npm.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
BUILD = (sys.executable, "-m", "build", "--no-isolation")
NPM_PARTS = ("LICENSE", "devices/web", "devices/edgerec_devices/web/dist", "edgerec/runtime/bundle-spec.json")
"""What the npm package is made of, as paths in the repository."""


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """Run a command, and return its output. Raises SystemExit with what it said."""
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}:\n{done.stdout}{done.stderr}")
    return done.stdout


def npm_version(python: str) -> str:
    """Return a version of Python's in npm's spelling: 0.2.0rc1 is 0.2.0-rc.1, 0.1.dev7 is 0.1.0-dev.7."""
    version = Version(python)
    if version.post is not None or version.local or version.epoch:
        raise SystemExit(f"npm has no version like {python}: tag another one")
    numbers = ".".join(str(number) for number in (*version.release, 0, 0)[:3])
    before = [str(part) for part in version.pre or ()]
    before += [] if version.dev is None else ["dev", str(version.dev)]
    return f"{numbers}-{'.'.join(before)}" if before else numbers


def npm(out: Path) -> None:
    """Pack the npm package in a copy, whose package.json has the version."""
    version = npm_version(run(sys.executable, "-m", "hatchling", "version").strip())
    with tempfile.TemporaryDirectory() as scratch:
        ignored = shutil.ignore_patterns("node_modules", "*.tgz")
        for part in NPM_PARTS:
            source, target = ROOT / part, Path(scratch, part)
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=ignored)
            else:
                shutil.copyfile(source, target)
        web = Path(scratch, "devices/web")
        run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=web)
        run("npm", "version", version, "--no-git-tag-version", "--allow-same-version", cwd=web)
        run("npm", "pack", "--pack-destination", out, cwd=web)


def sbom(out: Path) -> None:
    """Install each wheel in an environment of its own, and list what is there."""
    for wheel in sorted(out.glob("*.whl")):
        with tempfile.TemporaryDirectory() as scratch:
            venv.create(scratch)
            python = Path(scratch, "Scripts/python.exe" if os.name == "nt" else "bin/python")
            run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", wheel)
            for place in Path(scratch).rglob("direct_url.json"):
                place.unlink()  # it names folders of this machine
            name, version = wheel.name.split("-")[:2]
            target = out / f"{name}-{version}.cdx.json"
            run("cyclonedx-py", "environment", "--output-reproducible", "--output-file", target, python)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    builders = {
        "edgerec": lambda out: run(*BUILD, "--outdir", out, ROOT),
        "runtime": lambda out: run(*BUILD, "--wheel", "--outdir", out, ROOT / "devices/runtime"),
        "kernel": lambda out: run(*BUILD, "--wheel", "--outdir", out, ROOT / "devices/kernel/python"),
        "npm": npm,
        "sbom": sbom,
    }
    parser.add_argument("packages", nargs="*", choices=[*builders, []], metavar="PACKAGE")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    given = parser.parse_args()
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    os.umask(0o022)  # npm's archives hold the permissions of files
    # The time of the last commit stands in archives; outside of a checkout hatchling has one of its own.
    if "SOURCE_DATE_EPOCH" not in os.environ and (ROOT / ".git").exists():
        os.environ["SOURCE_DATE_EPOCH"] = run("git", "log", "-1", "--format=%ct").strip()
    for name in given.packages or builders:
        builders[name](out)
    print(*sorted(path.name for path in out.iterdir()), sep="\n")


if __name__ == "__main__":
    main()
