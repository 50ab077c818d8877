"""The demo's page as people use it: in headless Chromium, with the mouse and without, and without a network."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import pytest

from edgerec.budget import format_bytes
from edgerec.errors import OutputError, RequestError
from edgerec.models.encoder import LinearEncoder
from edgerec.runtime import Recommender
from edgerec.tables import DenseTable
from edgerec_devices.web.demo_site import write_demo
from edgerec_export import Source, export
from tests.conftest import CommandLine
from tests.devices.axe import cut_off, violations
from tests.devices.chrome import Chrome, Page, chrome
from tests.devices.web import BUNDLES, need_programs

TASTES = ("Gentle Rain", "Iron Fist", "Moonlit Café")
"""Of the films of one taste, each is called so, with a number."""
OTHER = BUNDLES / "v2-texts"
OLD = BUNDLES / "mixed-int8-linear"
FILMS = 120
SIZES = {
    "desktop": (1280, 900, False),
    "phone": (390, 844, True),
    "dark": (1280, 900, True),
    "narrow": (320, 640, False),
}
BEST = "[...document.querySelectorAll('#best .name')].map((e) => e.textContent)"
REASONS = "[...document.querySelectorAll('#best .because')].map((e) => e.textContent)"
FOUND = "[...document.querySelectorAll('#found .name')].map((e) => e.textContent)"
PICKS = "[...document.querySelectorAll('#picks li')].map((e) => e.firstChild.firstChild.textContent)"
READY = "!document.getElementById('app').hidden && document.getElementById('said').textContent.length > 0"
KEPT = "document.getElementById('offline').classList.contains('yes')"


def films(folder: Path, *, users: bool = False, d: int = 8, precision: str = "fp32") -> Path:
    """A bundle of films of three tastes, which lie along three axes; the first ones are the most popular."""
    rng = np.random.default_rng(0)
    rows = (np.eye(8)[np.arange(FILMS) % 3] + 0.1 * rng.standard_normal((FILMS, 8)))[:, :d]
    titles = np.array([f"{TASTES[n % 3]} {n} ({1950 + n % 70})" for n in range(FILMS)])
    items, ids = DenseTable(rows.astype(np.float32)), np.array([f"f{n}" for n in range(FILMS)])
    people = DenseTable(np.eye(8, d, dtype=np.float32)[:3]) if users else None
    source = Source(
        items,
        ids,
        people,
        None if people is None else np.arange(3),
        encoder=None if users else LinearEncoder(np.ones(FILMS, np.float32)),
        item_counts=np.arange(FILMS)[::-1],
        titles=titles,
    )
    return export(source, folder / "films.bundle", titles=True, precision=precision, verify=False).folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_programs("chromium")
    return films(tmp_path_factory.mktemp("demo"))


@pytest.fixture
def browser() -> Iterator[Chrome]:
    """Fresh, with nothing kept."""
    with chrome() as running:
        yield running


@contextmanager
def demo(*bundles: Path, port: int = 0) -> Iterator[str]:
    """`edgerec demo`, as it is called, until the block ends; its address."""
    command = [sys.executable, "-m", "edgerec.cli", "demo", *map(str, bundles), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def opened(browser: Chrome, address: str, size: str = "desktop") -> Page:
    width, height, dark = SIZES[size]
    page = browser.open(address, width=width, height=height, dark=dark)
    page.until(READY)
    return page


def shown(film: int) -> str:
    """A film's title, as the page says it."""
    return f"{TASTES[film % 3]} {film}"


def expected(bundle: Path, picks: list[int], exclude: Sequence[int] = ()) -> list[str]:
    """What Python answers to the same history."""
    model = Recommender.load(bundle)
    answer = model.recommend(history=[f"f{n}" for n in picks], k=12, exclude=[f"f{n}" for n in exclude])
    return [shown(int(str(item)[1:])) for item, _ in answer]


def pick(page: Page, words: str, film: int) -> None:
    """Search for a film and like it."""
    page.click("#search")
    page.js("document.getElementById('search').select()")
    page.type(words)
    page.until(f"{FOUND}[0] === {json.dumps(shown(film))}")
    page.click("#found li button.like")
    page.until(f"{PICKS}.includes({json.dumps(shown(film))}) && {REASONS}.length > 0")


def answers(page: Page, best: list[str]) -> None:
    """Wait until the page shows these recommendations."""
    page.until(f"JSON.stringify({BEST}) === JSON.stringify({json.dumps(best)})")


@pytest.mark.slow
def test_it_recommends_as_python_does_and_asks_nobody(bundle: Path, browser: Chrome) -> None:
    with demo(bundle) as address:
        page = opened(browser, address)
        page.until(KEPT)
        popular = [shown(n) for n in range(12)]
        assert page.js(BEST) == popular  # before anything is clicked
        assert page.js(FOUND) == []
        assert not page.js("document.getElementById('bytes').checkVisibility()")  # one size needs no slider
        pick(page, "IRON fist 1", 1)
        answers(page, expected(bundle, [1]))
        pick(page, "cafe 50", 50)  # without the accent
        best = expected(bundle, [1, 50])
        answers(page, best)
        assert set(page.js(REASONS)) <= {f"because you liked {shown(n)}" for n in (1, 50)}
        assert all(f"because you liked {shown(n)}" in page.js(REASONS) for n in (1, 50))
        # What is left out does not come back, and what is liked among the recommendations becomes a pick.
        first = int(best[0].split()[-1])
        page.click("#best button.dismiss")
        answers(page, expected(bundle, [1, 50], [first]))
        assert page.js("document.getElementById('dismissed').textContent") == "1 left out"
        second = int(best[1].split()[-1])
        page.click("#best button.like")
        page.until(f"{PICKS}.length === 3")
        answers(page, expected(bundle, [1, 50, second], [first]))
        # A chip takes its pick back.
        page.click("#picks li button")
        page.until(f"!{PICKS}.includes({json.dumps(shown(1))})")
        figures = page.js(
            "Object.fromEntries(['ms', 'size', 'exact', 'heap', 'ready', 'requests'].map((id) => "
            "[id, document.getElementById(id).textContent]))"
        )
        assert figures["requests"] == "0"
        assert figures["ms"].endswith(" ms")
        assert figures["ready"].endswith("s")
        nbytes = sum(path.stat().st_size for path in bundle.iterdir())
        assert (figures["size"], figures["exact"]) == (format_bytes(nbytes), f"{nbytes:,} bytes")
        assert figures["heap"].endswith(" KiB")  # a page of WebAssembly's memory or a few
        page.click("#forget")
        page.until(f"{PICKS}.length === 0")
        answers(page, popular)
        assert page.js("document.activeElement.id") == "search"
        assert not page.complaints()


@pytest.mark.slow
def test_without_a_network_it_opens_with_what_was_picked(bundle: Path, browser: Chrome) -> None:
    with demo(bundle) as address:
        page = opened(browser, address)
        pick(page, "rain 99", 99)
        answers(page, expected(bundle, [99]))
        page.until(KEPT)
    with pytest.raises(URLError, match="refused"):
        urlopen(address)
    page.go(address)
    page.until(READY)
    assert page.js(PICKS) == [shown(99)]
    answers(page, expected(bundle, [99]))
    pick(page, "fist 4", 4)
    answers(page, expected(bundle, [99, 4]))
    assert not [line for line in page.complaints() if "ERR_CONNECTION_REFUSED" not in line]


@pytest.mark.slow
def test_the_sliders_rank_again(bundle: Path, browser: Chrome, tmp_path: Path) -> None:
    """One goes through the bundles by their bytes, the other moves popular titles up or down."""
    small = films(tmp_path, d=3, precision="int8")
    sizes = [format_bytes(sum(path.stat().st_size for path in one.iterdir())) for one in (small, bundle)]
    text = "document.getElementById('bytes-text').textContent"
    with demo(bundle, small) as address:  # the order does not matter
        page = opened(browser, address)
        assert page.js(text).startswith(f"{sizes[0]}, ")
        pick(page, "rain 99", 99)
        answers(page, expected(small, [99]))
        page.until("/of these 12 are also/.test(document.getElementById('shared').textContent)")
        page.js("document.getElementById('bytes').focus()")
        page.press("ArrowRight")
        answers(page, expected(bundle, [99]))
        assert page.js(text) == f"{sizes[1]}, the largest"
        assert page.js("document.activeElement.id") == "bytes"

        def places() -> float:
            return float(np.mean([int(name.split()[-1]) for name in page.js(BEST)]))

        own = places()
        page.js("document.getElementById('popularity').focus()")
        page.press("ArrowRight", 2)
        page.until("document.getElementById('said').textContent.includes('much more popular')")
        assert places() < own  # the first films are the most popular
        page.press("ArrowLeft", 4)
        page.until("document.getElementById('said').textContent.includes('much less known')")
        assert places() > own
        page.press("ArrowRight", 2)
        answers(page, expected(bundle, [99]))
        assert not page.complaints()


@pytest.mark.slow
def test_another_bundle_at_the_same_address(bundle: Path, browser: Chrome, tmp_path: Path) -> None:
    with demo(bundle) as address:
        opened(browser, address).until(KEPT)
    with demo(OTHER, port=int(address.rsplit(":", 1)[1].strip("/"))) as again:
        assert again == address
        page = opened(browser, address)
        wanted = Recommender.load(OTHER)
        assert page.js("document.getElementById('about').textContent").startswith(f"{wanted.n_items} titles, ")


def test_by_keyboard_alone(bundle: Path, browser: Chrome) -> None:
    focus = "(document.activeElement.getAttribute('aria-label') ?? document.activeElement.id)"
    with demo(bundle) as address:
        page = opened(browser, address)
        page.press("Tab")
        assert page.js("document.activeElement.className") == "skip"
        page.press("Tab")
        assert page.js(focus) == "search"
        page.type("fist 7")
        page.until(f"{FOUND}[0] === {json.dumps(shown(7))}")
        page.press("Enter")
        assert page.js(focus) == f"I like {shown(7)}"
        page.press(" ")
        page.until("document.activeElement.getAttribute('aria-pressed') === 'true'")
        assert page.js(focus) == f"I like {shown(7)}"  # where it was
        page.until("document.getElementById('said').textContent.startsWith('Picked')")  # popular titles stood before
        said = page.js("document.getElementById('said').textContent")
        assert said == f"Picked. 12 recommendations, first {expected(bundle, [7])[0]}."
        while "Not " not in page.js(focus):
            page.press("Tab")
        gone = page.js(focus).removeprefix("Not ")
        page.press("Enter")
        page.until(f"!{BEST}.includes({json.dumps(gone)})")
        assert page.js(focus) == f"Not {page.js(BEST)[0]}"


@pytest.mark.parametrize("size", SIZES)
def test_anyone_can_use_it(bundle: Path, browser: Chrome, tmp_path: Path, size: str) -> None:
    """axe-core finds nothing, before and after picks, and nothing is wider than the screen."""
    with demo(bundle, films(tmp_path, precision="int8")) as address:
        page = opened(browser, address, size)
        for picks in range(2):
            if picks:
                pick(page, "rain 3", 3)
                page.click("#best button.dismiss")
                page.until("document.getElementById('dismissed').textContent !== ''")
            assert violations(page) == []
            assert cut_off(page) == []
        # On a narrow screen a line tells of the recommendations below, and leads to them.
        peek = "getComputedStyle(document.getElementById('peek')).display"
        page.js("scrollTo(0, 0)")
        if SIZES[size][0] > 800:
            assert page.js(peek) == "none"
        else:
            page.until(f"{peek} !== 'none'")
            assert page.js("document.getElementById('peek').textContent") == f"For you: {page.js(BEST)[0]}"
            page.click("#peek")
            page.until(f"{peek} === 'none'")
        assert not page.complaints()


@pytest.mark.slow
def test_a_bundle_with_users_answers_by_likeness(bundle: Path, browser: Chrome, tmp_path: Path) -> None:
    with demo(films(tmp_path, users=True)) as address:
        page = opened(browser, address)
        pick(page, "fist 7", 7)
        similar = Recommender.load(tmp_path / "films.bundle").similar("f7", k=12)
        answers(page, [shown(int(str(item)[1:])) for item, _ in similar])
        page.go(address)
        page.until(READY)
        assert page.js(PICKS) == [shown(7)]
        assert "It knows its own users" in page.js("document.getElementById('about').textContent")


def test_a_page_with_a_bundle_of_64_kib_weighs_less_than_150_kb(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    items = rng.standard_normal((2000, 24), np.float32)
    source = Source(
        DenseTable(items),
        np.arange(2000),
        encoder=LinearEncoder(np.ones(2000, np.float32)),
        item_counts=np.arange(2000),
        titles=np.array([f"Film {n}" for n in range(2000)]),
    )
    bundle = export(source, tmp_path / "films.bundle", titles=True, precision="int4", verify=False).folder
    nbytes = sum(path.stat().st_size for path in bundle.iterdir())
    page = write_demo([bundle], tmp_path / "site") - nbytes
    assert page + (64 << 10) < 150_000
    assert 60 << 10 < nbytes < 80 << 10  # all of its files


def test_it_can_be_written_for_any_web_server(bundle: Path, tmp_path: Path, command_line: CommandLine) -> None:
    done = command_line("demo", bundle, films(tmp_path, precision="int8"), "--out", tmp_path / "site")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "bundle" / "1" / "manifest.json").read_bytes() == (
        bundle / "manifest.json"
    ).read_bytes()
    # Another bundle in its place: nothing of the first two is left.
    write_demo([OTHER], tmp_path / "site")
    left = {
        path.relative_to(tmp_path / "site" / "bundle").as_posix() for path in (tmp_path / "site" / "bundle").rglob("*")
    }
    assert left == {"list.json", "0", *(f"0/{path.name}" for path in OTHER.iterdir())}
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").touch()
    with pytest.raises(OutputError, match="was not written by this command; choose another --out"):
        write_demo([bundle], tmp_path / "other")
    with pytest.raises(RequestError, match=r"has no 'similar' graph: .*; export it with --no-users"):
        write_demo([BUNDLES / "no-similar"], tmp_path / "new")
    with pytest.raises(RequestError, match=r"has integers of version 1.0, .*; export it again"):
        write_demo([OLD], tmp_path / "new")
    with pytest.raises(RequestError, match="hold different items; give bundles of one catalogue"):
        write_demo([bundle, OTHER], tmp_path / "new")
    missing = command_line("demo", tmp_path / "nothing")
    assert missing.returncode == 2
    assert missing.stderr.count("\n") == 1
