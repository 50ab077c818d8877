"""Time of a page from the import of the library to the first answer: the kernel and onnxruntime-web, in one run.

usage: python -m bench.experiments.first_answer [--rounds 15] [--out result.json]

A bundle of 2,000 items for histories, in int4, is served by this machine. Each page is opened in a fresh browser, by
turns: nothing is stored or compiled before. The page imports the library (with onnxruntime-web its module too), opens
the bundle and calls `recommend` once; its times are medians. Bytes are those of the files that it asks for.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np

from bench.experiments.harness import Figures, experiment
from edgerec.console import messages, print_table
from edgerec.errors import BenchError
from edgerec.models.encoder import LinearEncoder
from edgerec.tables import DenseTable
from edgerec_devices.web import chromium, files
from edgerec_devices.web.static_site import Files, StaticServer
from edgerec_export import Source, export

ITEMS, D = 2000, 24
STEPS = ("import_ms", "open_ms", "first_answer_ms")
PAGE_S = 120.0
"""Seconds for a page to answer."""
PAGE = """<!doctype html><meta charset="utf-8"><title>first answer</title><script type="module">
const times = [performance.now()];
const { load } = await import("./%(library)s");
%(runtime)s
times.push(performance.now());
const model = await load("bundle"%(options)s);
times.push(performance.now());
await model.recommend({ history: [3, 7], k: 10 });
times.push(performance.now());
const steps = times.slice(1).map((at, n) => (at - times[n]).toFixed(2));
await fetch(`done/${steps.join("/")}`);
</script>"""
ONNXRUNTIME = """
const runtime = await import("./ort/ort.wasm.min.mjs");
runtime.env.wasm.wasmPaths = new URL("ort/", location.href).href;
runtime.env.wasm.numThreads = 1;"""
PAGES = {
    "kernel": PAGE % {"library": "edgerec-kernel.mjs", "runtime": "", "options": ""},
    "onnxruntime-web": PAGE % {"library": "edgerec.mjs", "runtime": ONNXRUNTIME, "options": ", { runtime }"},
}


def bundle_of(folder: Path) -> Path:
    """Write the bundle that is served."""
    rng = np.random.default_rng(0)
    source = Source(
        DenseTable(rng.standard_normal((ITEMS, D), np.float32)),
        np.arange(ITEMS),
        encoder=LinearEncoder(np.ones(ITEMS, np.float32)),
        item_counts=np.arange(ITEMS),
    )
    return export(source, folder / "bundle", precision="int4", verify=False).folder


def site(bundle: Path, page: str) -> dict[str, Path | bytes]:
    """Return the files of a page."""
    found: dict[str, Path | bytes] = {path.name: path for path in files.DIST.glob("edgerec*")}
    found |= {f"ort/{name}": files.installed() / name for name in files.RUNTIME}
    found |= {f"bundle/{path.name}": path for path in bundle.iterdir()}
    return {**found, "index.html": page.encode(), "favicon.ico": b""}


def opened(content: Files) -> tuple[list[float], int]:
    """Open a page in a fresh browser, and return the milliseconds of each step, and the bytes of its files."""
    with StaticServer(content) as server, chromium.launch(server.address) as browser:
        end = time.monotonic() + PAGE_S
        while True:
            answer = next((path for path in list(server.log) if path.startswith("!done/")), None)
            if answer is not None:
                break
            if (said := browser.ended()) or time.monotonic() > end:
                raise BenchError(f"the page did not answer: {said or server.log}")
            time.sleep(0.02)
        requested = {path for path in server.log if path in content} - {"favicon.ico"}
    sizes = (len(found) if isinstance(found := content[path], bytes) else found.stat().st_size for path in requested)
    return [float(part) for part in answer.split("/")[1:]], sum(sizes)


@experiment("first-answer")
@click.option("--rounds", default=15, show_default=True, help="Fresh browsers for each library.")
def main(rounds: int) -> Figures:
    """Measure the time from import to the first answer in Chromium."""
    with tempfile.TemporaryDirectory(prefix="edgerec-first-") as scratch:
        bundle = bundle_of(Path(scratch))
        sites = {name: site(bundle, page) for name, page in PAGES.items()}
        taken: dict[str, list[list[float]]] = {name: [] for name in sites}
        nbytes = {}
        for number in range(rounds + 1):
            messages.print(f"round {number} of {rounds}")
            for name, content in sites.items():
                times, nbytes[name] = opened(content)
                if number:  # the first reads the browser into the page cache
                    taken[name].append(times)
        rows: list[dict[str, Any]] = [
            {
                "library": name,
                "bytes": nbytes[name],
                **{step: median(times[at] for times in found) for at, step in enumerate(STEPS)},
                "together_ms": median(map(sum, found)),
                "together_most_ms": max(map(sum, found)),
            }
            for name, found in taken.items()
        ]
    columns = ("library", "bytes", *(step.replace("_", " ") for step in STEPS), "together ms")
    names = (*STEPS, "together_ms")
    cells = ([row["library"], f"{row['bytes']:,}", *(f"{row[name]:.1f}" for name in names)] for row in rows)
    print_table("from import to the first answer", columns, cells)
    browser = subprocess.run([chromium.find_chromium(), "--version"], capture_output=True, text=True, check=True).stdout
    return {"rows": rows, "onnxruntime_web": files.version(), "browser": browser.strip()}


if __name__ == "__main__":
    main()
