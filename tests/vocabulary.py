"""Check the words of the house: python -m tests.vocabulary [--count] [PATH ...]

Every retired word of `RETIRED` is listed with its file, line and the word to use; so is a docstring whose first line
begins with one of `OPENINGS`. `EXCEPTIONS` names the phrases in which a retired word is right. With `--count` only the
number of each is printed.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
SUFFIXES = (".py", ".md", ".ts", ".mts", ".java", ".c", ".h", ".html", ".css", ".toml", ".sh", ".mjs")
SKIPPED = re.compile(
    r"(^|/)(\.[^/]+|node_modules|build|demo|results|dist|__pycache__)/|^tests/|^CHANGELOG\.md$|^bench/experiments/attack/"
)
"""Not read: what is made by a program, what records the past, the tests, and the attack, which another reader wrote."""

RETIRED: dict[str, str] = {
    r"told": "reported, given, recorded",
    r"asked": "requested, given",
    r"made": "created, built, computed",
    r"kept": "stored, retained",
    r"lacks": "is missing, has no",
    r"mend(s|ed|ing)?": "fix",
    r"anew": "again, from scratch",
    r"beside": "with, next to",
    r"in place of": "instead of",
    r"what ships": "the bundle",
    r"so many": "that many, N",
    r"such as are": "those that are",
    r"by[ _]heart": "validation overfitting",
    r"(is|are) paid": "receives reward",
    r"go(es)? on": "continues, resumes",
    r"spoilt": "corrupted",
    r"drawn up": "listed",
    r"judge[ds]?|judging": "evaluator, evaluation",
    r"oracle": "proxy (of sizes), reference",
    r"follow\(\)": "train_stream()",
    r"rehears(e|ed|al)": "evaluate on the previous segment",
    r"Wish(es)?": "TableRequest, BundleRequest",
    r"convers(e|ation)": "exchange",
    r"doubts": "quality warnings",
    r"in[ _]turns": "interleaved",
    r"uncut": "untruncated",
    r"dear": "expensive",
}
EXCEPTIONS: tuple[str, ...] = (
    r"made[- ]up",
    r"connection_made",  # asyncio's
    r"man-made",
    r"`kept`|sustained\.kept",  # keys of records and results on disk
    r"oracle\.json|oracle-(powers-)?ml-|search-oracles|--oracle|`(by_heart|oracle|search_oracles)`",  # names in records
    r"\bmade/",  # the folder of the Makefile of figures
    r"a user's vector is made from a history",  # the model card, which test vectors contain
    r"[\"'](kept|kept_columns|kept_pointers|uncut|uncut_)[\"']",  # names in runs and checkpoints
    r"was made for another bundle",  # an error that runtimes in all languages share
    r"judged-",  # file names of a search
    r"['\"](judges|kept|made_with|oracle|spoilt|uncut)['\"]|sha256 made to fit",  # keys of results on disk
    r"uncut: NotRequired",
)
OPENINGS = ("What", "Who", "Whom", "Whose", "Whether", "Of")


class Finding(NamedTuple):
    """A place that uses a retired word."""

    place: str
    word: str
    advice: str


def findings(paths: Iterable[Path]) -> Iterator[Finding]:
    """Yield each retired word of the files, line by line, and each docstring with a retired opening."""
    words = [(re.compile(rf"(?<![A-Za-z])({word})(?![A-Za-z])", re.IGNORECASE), use) for word, use in RETIRED.items()]
    right = re.compile("|".join(EXCEPTIONS), re.IGNORECASE)
    for path in paths:
        name, text = path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
        for number, line in enumerate(text.splitlines(), 1):
            rest = right.sub("", line)
            for pattern, use in words:
                for match in pattern.finditer(rest):
                    yield Finding(f"{name}:{number}", match[0].lower(), use)
        if path.suffix == ".py":
            yield from _openings(name, text)


def _openings(name: str, text: str) -> Iterator[Finding]:
    """Yield docstrings, those of attributes too, that begin with a retired opening."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            first = node.value.value.split(maxsplit=1)[:1]
            if first and first[0] in OPENINGS:
                yield Finding(f"{name}:{node.lineno}", f"{first[0]} ...", "begin with a verb or a noun")


def files(paths: list[Path]) -> list[Path]:
    """Return the files to read, of folders all that are ours."""
    found = (one for path in paths or [ROOT] for one in ([path] if path.is_file() else path.rglob("*")))
    return sorted(
        path
        for path in found
        if path.suffix in SUFFIXES and path.is_file() and not SKIPPED.search(path.relative_to(ROOT).as_posix())
    )


def main(arguments: list[str] | None = None) -> int:
    """Print the findings; return 1 if there are any."""
    parser = argparse.ArgumentParser(description="List the retired words, and what to write instead.")
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="Files and folders; all of the project's.")
    parser.add_argument("--count", action="store_true", help="Print how often each word occurs.")
    given = parser.parse_args(arguments)
    found = list(findings(files([path.resolve() for path in given.paths])))
    if given.count:
        for word, count in Counter(one.word for one in found).most_common():
            print(f"{count:6,} {word}")
        print(f"{len(found):6,} in all")
    else:
        for one in found:
            print(f"{one.place}: {one.word}: {one.advice}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
