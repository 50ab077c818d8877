"""Parts of the site beyond the pages: their order, links to folders, the front page's recommender, the signatures of
other languages, versions, and llms.txt."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

from docs import generated
from docs.live import live_script

ROOT = Path(__file__).parents[1]
VERSIONS = "<!-- versions -->"
"""Where the list of released versions goes."""
LIVE = "live-data.js"
REPOSITORY = "https://github.com/edgerec/edgerec"
_LINK = re.compile(r"(\[[^]]*\])\((?!https?:|mailto:|#)([^)\s#]+)([^)\s]*)\)")


_ACCESSIBLE = (
    ('<p class="caption" role="heading">', '<p class="caption" role="heading" aria-level="2">'),
    ('<aside class="sidebar-drawer">', '<aside class="sidebar-drawer" aria-label="Pages">'),
    ('<aside class="toc-drawer">', '<aside class="toc-drawer" aria-label="Headings">'),
    # What scrolls sideways on a narrow screen can be scrolled by the keyboard.
    ("<pre>", '<pre tabindex="0">'),
    ("<p><img ", '<p tabindex="0" class="picture"><img '),
    ('<div class="table-wrapper', '<div tabindex="0" class="table-wrapper'),
    ('<div id="search-results"></div>', '<h1>Search</h1>\n<div id="search-results" class="found"></div>'),
    ('<th class="head"><p></p></th>', '<td class="head"></td>'),
)
"""Corrections of what furo, Sphinx and Markdown's tables write; axe-core demands them."""


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the site's parts with Sphinx."""
    app.connect("builder-inited", _begin)
    app.connect("source-read", _read)
    app.connect("html-page-context", _scripts)
    app.connect("build-finished", _finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _begin(app: Sphinx) -> None:
    """Train and write the recommender of the front page, if none is in the output, or one of older files."""
    place = Path(app.outdir) / "_static" / LIVE
    if app.builder.name != "html":
        return
    newest = max(path.stat().st_mtime for path in (*(ROOT / "docs").glob("films/*"), ROOT / "docs" / "live.py"))
    if not place.exists() or place.stat().st_mtime < newest:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(live_script())


def _scripts(app: Sphinx, name: str, template: str, context: dict[str, Any], tree: nodes.document | None) -> None:
    """Load the recommender on the front page alone."""
    if name == app.config.root_doc:
        app.add_js_file(LIVE, loading_method="defer")
        app.add_js_file("live.js", loading_method="defer")


def _read(app: Sphinx, name: str, source: list[str]) -> None:
    """Lead links to folders to their README or to what is generated of them; of the index, make the order of the pages
    too, and list the versions where they belong."""
    if name == app.config.root_doc:
        source[0] += "\n".join(_toctrees(source[0]))
    if VERSIONS in source[0]:
        source[0] = source[0].replace(VERSIONS, _versions())
    folder = (ROOT / name).parent
    parts = {sources: part for part, (_, sources, _) in generated.PARTS.items()}

    def replaced(link: re.Match[str]) -> str:
        text, target, anchor = link.groups()
        place = folder / target
        if not place.is_dir():
            return link[0]
        if part := parts.get(place.resolve()):
            return f'<a href="{os.path.relpath(ROOT / part, folder)}/index.html">{text[1:-1].replace("`", "")}</a>'
        readme = place / "README.md"
        return f"{text}({os.path.relpath(readme, folder)}{anchor})" if readme.exists() else text[1:-1]

    source[0] = _LINK.sub(replaced, source[0])


def _versions() -> str:
    """A list of the tags of this checkout, the latest first, with the archives of their sites."""
    command = ["git", "tag", "--list", "v*", "--sort=-v:refname"]
    try:
        tags = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):  # no Git, or no checkout
        tags = []
    places = [(tag, f"{REPOSITORY}/releases/download/{tag}/edgerec-docs-{tag[1:]}.tar.gz") for tag in tags]
    return "\n".join(f"- [{tag[1:]}]({place})" for tag, place in places) or "No version has been released yet."


def _toctrees(index: str) -> Iterator[str]:
    """A toctree for each section of the index that has a table, in the order of its rows."""
    for section in index.split("\n## ")[1:]:
        pages = [link[2] for link in re.finditer(r"^\| " + _LINK.pattern, section, re.MULTILINE)]
        if pages:
            title = section.partition("\n")[0]
            yield "\n".join(["", "```{toctree}", ":hidden:", f":caption: {title}", "", *pages, "```", ""])


def _finish(app: Sphinx, error: Exception | None) -> None:
    """Complete the pages for keyboards and screen readers, and write llms.txt: for programs that read, every page's
    Markdown and its first paragraph."""
    if error is not None or app.builder.name != "html":
        return
    generated.write(Path(app.outdir))
    for path in Path(app.outdir).rglob("*.html"):
        text = path.read_text()
        for before, after in _ACCESSIBLE:
            text = text.replace(before, after)
        path.write_text(text)
    lines = ["# EdgeRec", "", f"> {_paragraph(app, 'README')}"]
    for section, pages in _sections(app):
        lines += ["", f"## {section}", ""]
        for name in pages:
            source = f"_sources/{name}.md{app.config.html_sourcelink_suffix}"
            lines.append(f"- [{app.env.titles[name].astext()}]({source}): {_paragraph(app, name)}")
    (Path(app.outdir) / "llms.txt").write_text("\n".join(lines) + "\n")


def _sections(app: Sphinx) -> Iterator[tuple[str, list[str]]]:
    for toctree in app.env.get_doctree(app.config.root_doc).findall(addnodes.toctree):
        yield toctree["caption"], [name for _, name in toctree["entries"]]


def _paragraph(app: Sphinx, name: str) -> str:
    """The first paragraph of a page, on one line."""
    found = next(iter(app.env.get_doctree(name).findall(nodes.paragraph)), None)
    return "" if found is None else " ".join(found.astext().split())
