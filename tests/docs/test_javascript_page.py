"""The programs of docs/guide/javascript.md, run as they stand there."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edgerec.runtime import Recommender
from edgerec_devices.web import files as web_files
from edgerec_devices.web.static_site import Files, StaticServer
from tests.devices.chrome import chrome
from tests.devices.javascript.parts import node_of, npm_packages
from tests.devices.web import films, native, need

DOCS = Path(__file__).parents[2] / "docs" / "guide"
PACKAGE = Path(web_files.__file__).parents[2] / "web" / "package.json"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return films(tmp_path)


def programs(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("beside", ["onnxruntime-web", "onnxruntime-node"])
def test_node(bundle: Path, beside: str) -> None:
    """With the package where npm would put it, and an onnxruntime beside it."""
    need("node")
    folder, modules = bundle.parent, bundle.parent / "node_modules"
    for source in web_files.DIST.glob("edgerec*.mjs"):
        _copy(source, modules / "edgerec" / "dist" / source.name)
    _copy(PACKAGE, modules / "edgerec" / "package.json")
    if beside == "onnxruntime-node":
        (modules / beside).symlink_to(native() / beside)
    else:
        shutil.copytree(web_files.installed(), modules / beside)
        (modules / beside / "package.json").write_text('{"exports": "./ort.node.min.mjs"}')
    program, _ = programs("javascript.md", "js")
    (folder / "program.mjs").write_text(program)
    done = subprocess.run(["node", "program.mjs"], cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    nbytes = sum(path.stat().st_size for path in bundle.iterdir())
    assert lines[0] == f"100 items, {nbytes} bytes, {Recommender.load(bundle).manifest.layout}"
    best = Recommender.load(bundle).recommend(history=[1, 7], k=3, exclude=[9])
    assert [line.rsplit(" ", 1)[0] for line in lines[1:4]] == [f"{item} Film {item}" for item, _ in best]
    assert lines[-1] == "item 'nobody knows' is not in the bundle; see has(), onUnknown, popular()"
    assert not list((folder / "private").iterdir())


def test_a_page(bundle: Path) -> None:
    need("chromium")
    _, worker = programs("javascript.md", "js")
    files: Files = {
        "index.html": b'<!doctype html><title>A page</title><link rel="icon" href="data:,">',
        "worker.js": worker.encode(),
        **{path.name: path for path in web_files.DIST.glob("edgerec*.mjs")},
        **{f"ort/{name}": web_files.installed() / name for name in web_files.RUNTIME},
        **{f"films.bundle/{path.name}": path for path in bundle.iterdir()},
    }
    with StaticServer(files) as server, chrome() as browser:
        page = browser.open(server.address)
        page.js(
            "globalThis.told = []; globalThis.worker = new Worker('worker.js', { type: 'module' });"
            "worker.onmessage = ({ data }) => told.push(data); worker.onerror = (e) => told.push(`${e.message}`); 0"
        )
        page.until("told.some((one) => one.ready === 100 || typeof one === 'string')")
        page.js("worker.postMessage(7)")
        page.until("told.at(-1).best || typeof told.at(-1) === 'string'")
        said = page.js("told")
        assert not page.complaints()
    tables = Recommender.load(bundle).manifest.tables.bytes
    assert {"loaded": tables, "total": tables} in said
    best = [[item, f"Film {item}", pytest.approx(score, abs=1e-5)] for item, score in expected(bundle)]
    assert said[-1]["best"] == best


@pytest.mark.slow
@pytest.mark.parametrize("library", ["edgerec", "edgerec/kernel"])
def test_a_page_that_vite_builds(bundle: Path, library: str) -> None:
    """The worker with its other beginning, in a production build."""
    need("chromium")
    folder, site = bundle.parent, bundle.parent / "site"
    tools = npm_packages("vite", "vite@8.4.0", "onnxruntime-web@1.30.0")
    for source in web_files.DIST.glob("edgerec*"):
        _copy(source, site / "node_modules" / "edgerec" / "dist" / source.name)
    _copy(PACKAGE, site / "node_modules" / "edgerec" / "package.json")
    if library == "edgerec":
        (site / "node_modules" / "onnxruntime-web").symlink_to(tools / "onnxruntime-web")
    beginning, config = programs("javascript.md", "javascript")
    _, worker = programs("javascript.md", "js")
    start = re.search(r"new Worker\(.*\)", beginning)
    assert start
    rest = worker[worker.index("const session") :]
    (site / "worker.js").write_text(beginning.replace('"edgerec";', f'"{library}";') + rest)
    (site / "vite.config.js").write_text(config)
    (site / "page.js").write_text(
        f"globalThis.told = []; globalThis.worker = {start[0]}; worker.onmessage = ({{ data }}) => told.push(data);\n"
    )
    (site / "index.html").write_text(
        '<!doctype html><title>A page</title><link rel="icon" href="data:,">'
        '<script type="module" src="/page.js"></script>'
    )
    (site / "public").mkdir()
    bundle.rename(site / "public" / "films.bundle")
    command = [node_of("22"), tools / "vite" / "bin" / "vite.js", "build", site, "--outDir", folder / "built"]
    done = subprocess.run(command, cwd=site, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    paths = [path for path in (folder / "built").rglob("*") if path.is_file()]
    files: Files = {path.relative_to(folder / "built").as_posix(): path for path in paths}
    # Of the kernel both builds, of which the page loads one.
    assert sum(name.endswith(".wasm") for name in files) == (1 if library == "edgerec" else 2)
    nbytes = sum(path.stat().st_size for path in paths if "films.bundle" not in path.parts)
    assert (14_200_000 < nbytes < 14_400_000) if library == "edgerec" else (71_000 < nbytes < 78_000)
    with StaticServer(files) as server, chrome() as browser:
        page = browser.open(server.address)
        page.until("told.some((one) => one.ready === 100)")
        page.js("worker.postMessage(7)")
        page.until("told.some((one) => one.best)")
        (best,) = [one["best"] for one in page.js("told") if "best" in one]
        assert not page.complaints()
    answer = expected(site / "public" / "films.bundle")
    assert best == [[item, f"Film {item}", pytest.approx(score, abs=1e-5)] for item, score in answer]


def expected(bundle: Path) -> list[tuple[int | str, float]]:
    """Python's answer to the page's question."""
    return [(one.item, one.score) for one in Recommender.load(bundle).recommend(history=[7], k=3)]


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
