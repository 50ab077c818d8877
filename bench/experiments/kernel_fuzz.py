"""Fuzzing of the kernel: no corrupted bundle may read memory that is not its own, or leave C's defined behaviour.

usage: python -m bench.experiments.kernel_fuzz [--count 100000] [--seed 0] [--out result.json]

The kernel and `devices/kernel/fuzz/fuzz.c` are compiled by gcc with the address and undefined behaviour sanitizers.
Bundles of every layout, as folders and as single files, and those of the test vectors that the kernel opens are
corrupted: numbers and texts of the manifest, bytes of manifest, head and tables. In half of the mutants the hash of the
tables is compared; in the other half it counts as fitting, and the manifest's size of the tables is corrected, so that
other checks must find the damage. Every call is tried on a mutant that opens, with random rows.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click

from bench.experiments.fuzz import bundles
from bench.experiments.harness import ROOT, Figures, experiment
from edgerec.console import messages
from edgerec.errors import BenchError, BundleError
from edgerec.runtime.manifest import read_manifest
from edgerec.runtime.stored import pack

KERNEL = ROOT / "devices" / "kernel"
VECTORS = ROOT / "tests" / "vectors" / "bundles"
SANITIZED = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
# Bounds are computed for large catalogues only; here for all.
OPTIONS = ("-std=c99", "-D_DEFAULT_SOURCE", *SANITIZED, "-DER_LARGE=1")
AT_ONCE = 5000
"""Mutants of one process."""
HANGS_S = 1800


def build(out: Path) -> Path:
    """Compile the kernel with the program that corrupts bundles. Raises BenchError if gcc is missing."""
    sources = [*sorted((KERNEL / "src").glob("*.c")), KERNEL / "fuzz" / "fuzz.c"]
    try:
        subprocess.run(["gcc", *OPTIONS, *map(str, sources), "-o", str(out)], check=True)
    except FileNotFoundError:
        raise BenchError("gcc is not installed; install it: apt-get install gcc libc6-dev") from None
    return out


def originals(scratch: Path) -> list[Path]:
    """Return the bundles to corrupt."""
    folders = bundles(scratch)
    for folder in folders:
        pack(folder, folder.with_suffix(".edgerec"))
    return [*folders, *(folder.with_suffix(".edgerec") for folder in folders), *_vectors()]


def _vectors() -> list[Path]:
    found = []
    for folder in sorted(VECTORS.iterdir()):
        try:
            manifest = read_manifest(folder)
        except BundleError:
            continue
        if manifest.version[0] > 1 or "int" not in manifest.precision:
            found.append(folder)
    return found


def fuzz(program: Path, paths: Sequence[Path], seed: int, first: int, count: int) -> tuple[Counter[str], list[str]]:
    """Return the number of mutants by outcome, and a line for each process that did not end well."""
    outcomes, faults = Counter[str](), list[str]()
    for start in range(first, first + count, AT_ONCE):
        some = min(AT_ONCE, first + count - start)
        command = [str(program), str(seed), str(start), str(some), *map(str, paths)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=HANGS_S)
        if done.returncode:
            output = (done.stderr or done.stdout).strip().splitlines()
            faults.append(
                f"of mutants {start} to {start + some - 1}: {next(iter(output[-1:]), f'status {done.returncode}')}"
            )
            continue
        for line in done.stdout.splitlines():
            number, _, outcome = line.partition(" ")
            outcomes[outcome] += int(number)
    return outcomes, faults


@experiment("kernel-fuzz")
@click.option("--count", default=100_000, show_default=True, help="Number of corrupted bundles.")
@click.option("--seed", default=0, show_default=True, help="Seed of every corruption.")
def main(count: int, seed: int) -> Figures:
    """Corrupt bundles, and open and query them by the kernel under sanitizers."""
    with tempfile.TemporaryDirectory(prefix="edgerec-kernel-fuzz-") as scratch:
        outcomes, faults = fuzz(build(Path(scratch) / "fuzz"), originals(Path(scratch)), seed, 0, count)
    for outcome, number in outcomes.most_common():
        messages.print(f"{number:7d} {outcome}")
    for fault in faults:
        messages.print(fault)
    return {"outcomes": dict(outcomes.most_common()), "options": list(OPTIONS), "faults": faults}


if __name__ == "__main__":
    main()
