"""The pages as a whole: each says whom it is for, is reachable, and its links lead to pages and headings that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = sorted(ROOT.glob("docs/**/*.md"))
PAGES = sorted(
    {
        *ROOT.glob("*.md"),
        *ROOT.glob("*/*.md"),
        *DOCS,
        *ROOT.glob("devices/*/README.md"),
        *ROOT.glob("tests/*/README.md"),
    }
)
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)\s]+)\)")
NO_PARAGRAPH = ("#", "|", "```", "    ", "<", "- ", "* ", "![", ":::", "1.")
"""How headings, tables, code, pictures and lists begin."""


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def prose(page: Path) -> str:
    """A page without its blocks of code, in which a bracket is no link and a # no heading."""
    return re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def links(page: Path) -> list[tuple[Path, str]]:
    """The file and the heading that each relative link of a page names; the heading is empty where it names none."""
    found = [target.partition("#") for target in LINK.findall(prose(page))]
    return [((page.parent / path).resolve() if path else page, heading) for path, _, heading in found]


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as code hosts and MyST derive them from the text."""
    texts = re.findall(r"^#{1,6} (.+)$", prose(page), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text).lower()).replace(" ", "-")
        for text in texts
    }


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    for target, heading in links(page):
        assert target.exists(), f"{name(page)}: {target}"
        if heading and target.suffix == ".md":
            assert heading in headings(target), f"{name(page)}: {name(target)}#{heading}"


@pytest.mark.parametrize("page", DOCS, ids=name)
def test_a_page_opens_with_a_title_and_a_paragraph_for_its_reader(page: Path) -> None:
    text = re.sub(r"\A---\n.*?\n---\n\n", "", page.read_text(), flags=re.DOTALL)  # of a notebook
    title, _, rest = text.partition("\n\n")
    assert re.fullmatch(r"# \S.*", title)
    paragraph = rest.lstrip("\n").partition("\n\n")[0]
    assert not paragraph.startswith(NO_PARAGRAPH)
    assert len(paragraph.split()) >= 8


def test_every_page_is_reachable_from_the_readme_and_listed_by_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    assert {target for target, _ in links(index)} >= {page for page in DOCS if page != index}
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in reached and page.suffix == ".md" and page.is_file():
            reached.add(page)
            waiting += [target for target, _ in links(page)]
    assert set(DOCS) <= reached
