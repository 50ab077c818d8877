"""Robustness trials of patches: processes killed while they apply one, and damaged patches.

usage: python -m bench.experiments.patch_trials BUNDLE THERE BACK    applies the two alternately until it is killed
"""

from __future__ import annotations

import itertools
import shutil
import struct
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edgerec.errors import BenchError, EdgeRecError, PatchError
from edgerec.runtime import Recommender
from edgerec.runtime.manifest import FILE_NAME, PREVIOUS_NAME
from edgerec.runtime.patch import apply_patch, undo_patch

Contents = dict[str, bytes]
HEAD = struct.Struct("<8sHH32sQ")


class Kills(NamedTuple):
    """The outcomes of killed processes.

    Attributes:
        old, new: numbers of kills that left the old and the new bundle; there are no others.
        amid: kills after the first new file was created and before the last old one was removed.
    """

    old: int
    new: int
    amid: int


def contents(folder: Path) -> Contents:
    """Return the content of every file in a folder, by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def kill(old: Path, new: Path, patches: tuple[Path, Path], scratch: Path, count: int, seed: int = 0) -> Kills:
    """Kill `count` processes that patch a copy of `old` to `new` and back, each at a random moment.

    Raises BenchError if the bundle left by one is not exactly one of the two, or does not open.
    """
    rng, folder = np.random.default_rng(seed), scratch / "killed.bundle"
    shutil.copytree(old, folder)
    states = [contents(old), contents(new)]
    left, amid = [0, 0], 0
    takes = _milliseconds(folder, patches)
    for _ in range(count):
        command = [sys.executable, "-m", "bench.experiments.patch_trials", *map(str, (folder, *patches))]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as process:
            if process.stdout is None or process.stdout.readline() != b"ready\n":
                raise BenchError("the process that patches did not start; run its command to see why")
            time.sleep(float(rng.uniform(0, 2e-3 * takes)))
            process.kill()
        found = contents(folder)
        whole = [all(found.get(name) == content for name, content in state.items()) for state in states]
        if whole[0] == whole[1] and states[0][FILE_NAME] != states[1][FILE_NAME]:
            raise BenchError(f"a killed process left {folder}, which is neither bundle: save it, and report this")
        left[whole.index(True)] += 1
        expected = {PREVIOUS_NAME, *states[0], *states[1]}
        amid += any(name not in expected for name in found) or (folder / PREVIOUS_NAME).read_bytes() == found[FILE_NAME]
        Recommender.load(folder)
    return Kills(left[0], left[1], amid)


def _milliseconds(folder: Path, patches: tuple[Path, Path]) -> float:
    """Time one application; this also reads the patches into the page cache and creates the previous version."""
    started = time.perf_counter()
    for patch in patches:
        apply_patch(folder, patch)
    return 1e3 * (time.perf_counter() - started) / len(patches)


def damage(folder: Path, patch: bytes, count: int, seed: int = 0) -> dict[str, int]:
    """Apply damaged copies of a patch to the bundle in `folder` until `count` were refused; the bundle stays unchanged.

    Returns:
        Number of refusals by kind of damage, and the number of 'harmless' damages on top. Those changed only bytes
        without effect, such as the zero point of a block that needs none, and led to the same bundle as the original
        patch; they were undone.

    Raises BenchError if a damaged patch had another effect.
    """
    rng, before = np.random.default_rng(seed), contents(folder)
    with_patch = _result(folder, patch)
    ways = itertools.cycle(_WAYS.items())
    counts = Counter(harmless=0)
    while counts.total() - counts["harmless"] < count:
        name, way = next(ways)
        damaged = way(patch, rng)
        if damaged == patch:
            continue
        try:
            apply_patch(folder, damaged)
        except EdgeRecError as refusal:
            if not isinstance(refusal, PatchError) and contents(folder) == before:
                raise BenchError(f"a damaged patch is refused as {refusal!r}: report this") from refusal
            counts[name] += 1
        else:
            if contents(folder).get(FILE_NAME) != with_patch[FILE_NAME]:
                raise BenchError(f"a damaged patch ({name}) led to another bundle: report this")
            undo_patch(folder)
            counts["harmless"] += 1
        if contents(folder) != before:
            raise BenchError(f"a damaged patch ({name}) changed the bundle: report this")
    return dict(counts)


def _result(folder: Path, patch: bytes) -> Contents:
    apply_patch(folder, patch)
    found = contents(folder)
    undo_patch(folder)
    return found


def _flipped(content: bytes, rng: np.random.Generator) -> bytes:
    """Flip one bit."""
    at = int(rng.integers(len(content)))
    return content[:at] + bytes([content[at] ^ 1 << int(rng.integers(8))]) + content[at + 1 :]


def _cut(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: int(rng.integers(len(content)))]


def _longer(content: bytes, rng: np.random.Generator) -> bytes:
    return content + rng.bytes(int(rng.integers(1, 100)))


def _without_some(content: bytes, rng: np.random.Generator) -> bytes:
    start, stop = sorted(rng.integers(len(content), size=2).tolist())
    return content[:start] + content[stop:]


def _with_noise(content: bytes, rng: np.random.Generator) -> bytes:
    at, noise = int(rng.integers(len(content))), rng.bytes(16)
    return (content[:at] + noise + content[at + 16 :])[: len(content)]


def _inside(change: Callable[[bytes, np.random.Generator], bytes]) -> Callable[[bytes, np.random.Generator], bytes]:
    """Change the uncompressed stream, and recompute its length and sha256, as an attacker would."""

    def changed(content: bytes, rng: np.random.Generator) -> bytes:
        stream = zlib.decompress(content[HEAD.size :])
        damaged = change(stream, rng)
        if damaged == stream:
            return content
        body = struct.pack("<Q", len(damaged)) + zlib.compress(damaged)
        return content[:12] + sha256(body).digest() + body

    return changed


def _in_header(content: bytes, rng: np.random.Generator) -> bytes:
    """Replace one number of the header by another."""
    header, newline, parts = content.partition(b"\n")
    places = [at for at, byte in enumerate(header) if chr(byte).isdigit()]
    at = places[int(rng.integers(len(places)))]
    return header[:at] + str(rng.choice([0, 1, 9, 10**6, 10**12, -1])).encode() + header[at + 1 :] + newline + parts


_WAYS: dict[str, Callable[[bytes, np.random.Generator], bytes]] = {
    "bit flipped": _flipped,
    "cut": _cut,
    "longer": _longer,
    "a part left out": _without_some,
    "noise": _with_noise,
    "bit flipped, sha256 made to fit": _inside(_flipped),
    "cut, sha256 made to fit": _inside(_cut),
    "noise, sha256 made to fit": _inside(_with_noise),
    "a number of the header, sha256 made to fit": _inside(_in_header),
}


def main(folder: Path, there: Path, back: Path) -> None:
    """Apply the two patches alternately."""
    Recommender.load(folder)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for patch in itertools.cycle((there, back)):
        with suppress(PatchError):  # the one that does not lead from here
            apply_patch(folder, patch)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
