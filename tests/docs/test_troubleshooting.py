"""The page on errors names every one that there is, and no other: of Python, JavaScript, Java and the kernel."""

from __future__ import annotations

import ast
import re

from edgerec import errors
from tests.docs.pages import ROOT

PAGE = (ROOT / "docs" / "guide" / "troubleshooting.md").read_text()
PYTHON = ("edgerec", "export/edgerec_export", "bench/edgerec_bench", "devices/edgerec_devices")


def named(section: str, column: int) -> set[str]:
    """The names in a column of the table of a section, each with a fix in the last one."""
    table = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines() if line[:1] == "|"]
    assert all(row[-1] for row in rows)
    return {name for row in rows[2:] for name in re.findall(r"`(\w+)`", row[column].split(" (")[0])}


def test_every_error_of_python_is_there() -> None:
    known = {name for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, Exception)}
    classes = [
        node
        for package in PYTHON
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    ]
    # Until nothing is added: a class may be of one that is defined in a file read later.
    while (
        more := {one.name for one in classes if {ast.unparse(base).split(".")[-1] for base in one.bases} & known}
        - known
    ):
        known |= more
    assert named("Python and the command line", 0) == known


def test_every_error_of_javascript_and_java_is_there() -> None:
    script = (ROOT / "devices" / "web" / "src" / "errors.ts").read_text()
    java = ROOT / "devices" / "android" / "edgerec" / "src" / "main" / "java" / "org" / "edgerec"
    assert named("JavaScript and Java", 0) == set(re.findall(r"^export class (\w+)", script, re.MULTILINE))
    assert named("JavaScript and Java", 1) == {path.stem for path in java.glob("*Exception.java")}


def test_every_status_of_the_kernel_is_there() -> None:
    header = (ROOT / "devices" / "kernel" / "edgerec_kernel.h").read_text()
    statuses = header.partition("typedef enum er_status {")[2].partition("}")[0]
    assert named("Kernel", 0) == set(re.findall(r"^ +(ER_\w+)", statuses, re.MULTILINE))
