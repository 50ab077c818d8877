"""Pages of the site that other languages' own tools write: TypeDoc for JavaScript, javadoc for Java.

A tool that is not on this machine gives a page that says so, and how to get it: the site is built all the same, and
no link is broken. With CI=true it is an error, as a test that cannot run is one there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
WEB = ROOT / "devices" / "web"
JAVA = ROOT / "devices" / "android" / "edgerec" / "src" / "main" / "java"
STYLES = Path(__file__).parent / "static" / "generated"
TYPEDOC = ("--package=typedoc@0.28.20", "--package=typescript@6.0.3")
"""TypeDoc does not read the TypeScript 7 that checks the package; so it brings the newest that it reads."""


class MissingToolError(Exception):
    """A tool is not on this machine, or cannot be fetched; the message says which and how to get it."""


def javascript(out: Path) -> None:
    """Write the reference of both modules of the npm package. Raises MissingToolError."""
    if shutil.which("npm") is None:
        raise MissingToolError("TypeDoc needs Node and npm: apt install nodejs npm")
    with tempfile.TemporaryDirectory() as scratch:
        # A copy without node_modules, whose TypeScript and types TypeDoc would find first.
        folder = Path(scratch) / "edgerec"
        shutil.copytree(WEB / "src", folder / "src")
        for name in ("tsconfig.json", "tsconfig.package.json"):
            shutil.copy(WEB / name, folder)
        (folder / "typedoc.css").write_text((STYLES / "typedoc.css").read_text())
        _run(
            *("npm", "exec", "--yes", "--prefer-offline", "--ignore-scripts", *TYPEDOC, "--", "typedoc"),
            *("--tsconfig", "tsconfig.package.json", "--skipErrorChecking", "--excludeInternal", "--disableSources"),
            *("--readme", "none", "--name", "EdgeRec for JavaScript", "--hideGenerator", "--customCss", "typedoc.css"),
            *("--treatWarningsAsErrors", "--logLevel", "Warn", "--out", str(out)),
            *("src/node.ts", "src/kernel-node.ts"),
            cwd=folder,
            fetches=True,
        )
    _complete(
        out,
        (re.compile(r'href="[./]*assets/icons\.svg#'), 'href="#'),  # from disk a page opens no part of another file
        (re.compile(r'<div class="col-content">'), '<div class="col-content" role="main">'),
        (
            re.compile(r'<div class="col-sidebar">'),
            '<div class="col-sidebar" role="complementary" aria-label="On this page">',
        ),
        (re.compile(r'<aside class="tsd-sources">(.*?)</aside>', re.DOTALL), r'<div class="tsd-sources">\1</div>'),
        # A page hides itself until its script has run, or half a second.
        (re.compile(r'document\.body\.style\.display="none";setTimeout\(.*?,500\)'), ""),
        # A summary is a button: it may hold no link, as those of the menu do, which repeats what the pages list.
        (re.compile(r'<div class="site-menu">.*?</nav></div>', re.DOTALL), ""),
        (
            re.compile(r'(<summary(?:(?!</summary>).)*?)<a href="#[^"]*" aria-label="Permalink".*?</a>', re.DOTALL),
            r"\1",
        ),
    )


def java(out: Path) -> None:
    """Write the reference of the library for Android. Raises MissingToolError."""
    if shutil.which("javadoc") is None:
        raise MissingToolError("javadoc is part of a JDK: apt install openjdk-17-jdk-headless")
    sources = sorted((JAVA / "org" / "edgerec").glob("*.java"))
    with tempfile.TemporaryDirectory() as scratch:
        # No public signature has a class of onnxruntime: names suffice, and its archive need not be fetched.
        for name in {
            name for path in sources for name in re.findall(r"^import ai\.onnxruntime\.(\w+);", path.read_text(), re.M)
        }:
            place = Path(scratch) / "ai" / "onnxruntime" / f"{name}.java"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(f"package ai.onnxruntime; public class {name} extends Exception {{}}")
        _run(
            *("javadoc", "-quiet", "-Werror", "-Xdoclint:all,-missing", "--release", "8", "-notimestamp", "-nohelp"),
            *("-notree", "-encoding", "UTF-8", "-charset", "UTF-8", "-windowtitle", "EdgeRec for Java"),
            *("--add-stylesheet", str(STYLES / "javadoc.css"), "-sourcepath", f"{scratch}{os.pathsep}{JAVA}"),
            *("-d", str(out), "org.edgerec"),
            cwd=ROOT,
        )
    styles = out / "stylesheet.css"
    # The style asks for fonts that are not there.
    styles.write_text(styles.read_text().replace("@import url('resources/fonts/dejavu.css');", ""))
    _complete(out)


PARTS: dict[str, tuple[str, Path, Callable[[Path], None]]] = {
    "javascript": ("JavaScript signatures", WEB / "src", javascript),
    "java": ("Java signatures", JAVA / "org" / "edgerec", java),
}
"""By folder of the site: a title, the sources that are described there, and who writes it."""


def write(site: Path) -> None:
    """Write all parts into the site, those alone whose sources are newer. Raises MissingToolError with CI=true."""
    for name, (title, sources, build) in PARTS.items():
        out = site / name
        newest = max(path.stat().st_mtime for path in (*sources.iterdir(), *STYLES.iterdir(), Path(__file__)))
        if (out / "written").exists() and (out / "written").stat().st_mtime >= newest:
            continue
        shutil.rmtree(out, ignore_errors=True)
        try:
            build(out)
            (out / "written").touch()
        except MissingToolError as lack:
            if os.environ.get("CI") == "true":
                raise
            print(f"{title} are left out: {lack}", file=sys.stderr)  # no warning: those are errors here
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir(parents=True)
            (out / "index.html").write_text(_PLACEHOLDER.format(title=title, lack=escape(str(lack))))


_PLACEHOLDER = """<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width">
    <meta name="color-scheme" content="light dark">
    <title>{title}</title>
  </head>
  <body><main>
    <h1>{title}</h1>
    <p>Not part of this build of the site: {lack}. Then <code>make docs</code> again.</p>
    <p><a href="../docs/index.html">EdgeRec's documentation</a></p>
  </main></body>
</html>
"""


def _complete(out: Path, *corrections: tuple[re.Pattern[str], str]) -> None:
    """Correct the pages of a tool for keyboards, screen readers and opening from disk, and lead back to the site."""
    for path in out.rglob("*.html"):
        text = _ordered(path.read_text())
        for pattern, by in corrections:
            text = pattern.sub(by, text)
        home = "../" * len(path.relative_to(out.parent).parent.parts) + "docs/index.html"
        back = f'<nav aria-label="Site"><a class="edgerec-back" href="{home}">EdgeRec\'s documentation</a></nav>'
        text = re.sub(r"(<body[^>]*>)", r"\1" + back, text, count=1)
        path.write_text(text)


def _ordered(text: str) -> str:
    """A page whose headings skip no level."""
    level = 0

    def one(heading: re.Match[str]) -> str:
        nonlocal level
        level = min(int(heading[1]), level + 1)
        return f"<h{level}{heading[2]}</h{level}>"

    return re.sub(r"<h([1-6])(\b[^>]*>.*?)</h\1>", one, text, flags=re.DOTALL)


def _run(*command: str, cwd: Path, fetches: bool = False) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=300)
    said = (done.stdout + done.stderr).strip()
    if done.returncode and fetches and re.search(r"npm (ERR!|error)", said):
        raise MissingToolError(f"npm cannot fetch TypeDoc: {said.splitlines()[0]}")
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}:\n{said}")
