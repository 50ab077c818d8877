"""Text from anywhere reaches a terminal as text: it obeys nothing of it, and no message fills it."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.progress import Progress, TextColumn

from edgerec.cli.output import print_json, print_text, say
from edgerec.console import Terminal, print_facts, print_table, printable
from edgerec.errors import HIDDEN, BundleError, EdgeRecError, RequestError, shown
from edgerec_export import export
from edgerec_export.draft.card import shown as of_the_card
from tests.conftest import CommandLine, random_source

EVIL = "\x1b]0;owned\x07\x1b[2J\r\x9b31m\u202egnp\u2066\x00\ud800\u2028"
"""A title of the window, a cleared screen, another color, text that runs backwards, half a character."""


def hidden(text: str) -> set[str]:
    return set(HIDDEN.findall(text.replace("\n", "")))


def test_errors_are_one_short_line_whatever_they_name() -> None:
    for kind in (EdgeRecError, BundleError, RequestError):
        said = str(kind(f"{EVIL} and {'x' * 10_000_000}; get it again"))
        assert not HIDDEN.search(said)
        assert len(said) < 2200
        assert said.endswith("x; get it again")
        assert said.startswith(r"\x1b]0;owned\x07\x1b[2J\r\x9b31m\u202egnp\u2066\x00\ud800\u2028 and x")
    assert (
        str(EdgeRecError("Łódź, 東京 \u200d👩\u200d💻")) == "Łódź, 東京 \u200d👩\u200d💻"
    )  # joiners of scripts and signs
    assert of_the_card is shown


def test_tables_facts_and_notes(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(EVIL, ["title", EVIL], [[EVIL, "x" * 1_000_000], ["y\n" * 100_000, 1]])
    print_facts(EVIL, {EVIL: EVIL, "long": "x" * 1_000_000})
    say(EVIL + "x" * 1_000_000)
    print_text(f"{EVIL},{EVIL}\n")
    said = capsys.readouterr().out
    assert not hidden(said)
    assert len(said) < 500_000
    assert r"\x1b[2J" in said


def test_what_a_terminal_shows_while_it_waits() -> None:
    """Bars and tables that nobody escaped before: the terminal's own controls are there, and no others."""
    out = StringIO()
    terminal = Terminal(file=out, force_terminal=True, width=200, color_system=None, legacy_windows=False)
    with Progress(TextColumn("{task.description}", markup=False), console=terminal) as bar:
        bar.add_task(EVIL)
        terminal.print(EVIL)
    said = out.getvalue()
    assert r"\x1b[2J" in said
    for part in ("\x1b[2J", "\x1b]0", "\x07", "\x9b", "\u202e", "\u2066", "\x00"):
        assert part not in said


def test_json_is_escaped_and_means_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"title": EVIL.replace("\ud800", "") + "\U000e0041", "plain": "Łódź"}
    print_json([value, EVIL])
    said = capsys.readouterr().out
    assert not hidden(said)
    assert json.loads(said) == [value, EVIL]
    assert "Łódź" in said


def test_a_text_of_many_lines_is_cut() -> None:
    assert printable("a\n" * 5000).count("\n") == 1000


def test_a_bundle_says_nothing_to_the_terminal(command_line: CommandLine, tmp_path: Path) -> None:
    bundle = export(random_source(50, 9), tmp_path / "b", verify=False).folder
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["about"].update(data=EVIL.replace("\ud800", ""), backbone="x" * 1_000_000)
    manifest["layout"] = "\x1b[31mdense"
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    for arguments in (("inspect", bundle), ("inspect", bundle, "--json")):
        done = command_line(*arguments)
        assert done.returncode == 0, done.stderr
        assert not hidden(done.stdout)
    manifest["tables"]["file"] = EVIL + "y" * 100_000
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    mistyped = EVIL.replace("\0", "").replace("\ud800", "")
    for arguments in (("inspect", bundle), ("recommend", bundle, "--user", "1"), (mistyped,)):
        done = command_line(*arguments)
        assert done.returncode == 2
        assert not hidden(done.stderr.replace("\x1b[0m", ""))
        assert done.stderr.count("\n") == 1
        assert len(done.stderr) < 3000
