"""Size and structure of the code: lines in the wheel, docstring coverage, and the files a reader opens per subject.

usage: python -m bench.experiments.house [--root CHECKOUT] [--before EARLIER.json] [--out house.json]

The files are those of the wheel: every .py file in the packages that the checkout's pyproject.toml names for hatch.

- **Lines** are counted with blank lines and without; comments and docstrings count.
- **Docstring coverage** is the share of public modules, classes, functions and methods that have one: names without a
  leading underscore, at the top level of a module or of a public class.
- **Files opened** for a subject are those that a reader of its entry opens (`SUBJECTS`): the entry (all files of a
  folder) and the files reached by imports, with these rules:
  1. An import from a package (`from edgerec.models import SizePlan`) uses its public interface and opens nothing.
  2. An import of a module in the entry's layer, as defined for import-linter, opens it, and its imports follow.
  3. An import of a module in another layer bypasses that layer's interface: it opens the file, but none of its imports.
  4. Imports for types only (`if TYPE_CHECKING`), and of FOUNDATION, open nothing.

Imports inside functions count like those at the top.
"""

from __future__ import annotations

import ast
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import click

from bench.experiments.harness import Figures, experiment
from edgerec.console import print_facts, print_table
from edgerec.errors import BenchError

SUBJECTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "popularity": (("edgerec.methods.rules", "edgerec.methods.popularity"), ("edgerec.methods.stream.fixed",)),
    "BET": (("edgerec.methods.bet",),),
    "CIESS": (("edgerec.methods.ciess",),),
    "SparseRec": (("edgerec.methods.sparse.sparserec", "edgerec.methods.sparserec"),),
    "SCALL": (("edgerec.methods.stream.scall",),),
    "a layout (mixed)": (("edgerec_export.layouts.mixed", "edgerec_export.layouts.kinds"),),
    "bundle load": (("edgerec.runtime.recommender",),),
    "ssh device": (("edgerec_devices.ssh.device",),),
    "report page": (("edgerec_bench.reports.page", "edgerec_bench.page"),),
}
"""Entries by subject; each is the first of several names that the checkout has. `Recommender.load` opens a bundle."""
FOUNDATION = (
    *("edgerec.errors", "edgerec.files", "edgerec.extras", "edgerec.json_records", "edgerec.outputs"),
    *("edgerec.console", "edgerec.signatures"),
)
AIM = 8
"""Maximum number of files for a subject."""


@dataclass(frozen=True)
class Checkout:
    """The packages of one checkout.

    Attributes:
        root: the folder with pyproject.toml.
    """

    root: Path

    @cached_property
    def _settings(self) -> dict[str, Any]:
        try:
            read: dict[str, Any] = tomllib.loads((self.root / "pyproject.toml").read_text())["tool"]
        except (OSError, ValueError, KeyError) as error:
            raise BenchError(f"{self.root} is no checkout of EdgeRec ({error}); give one with --root") from error
        return read

    @cached_property
    def modules(self) -> dict[str, Path]:
        """Files of the wheel by module name."""
        found = {}
        for package in self._settings["hatch"]["build"]["targets"]["wheel"]["packages"]:
            folder = self.root / package
            for path in sorted(folder.rglob("*.py")):
                parts = [folder.name, *path.relative_to(folder).with_suffix("").parts]
                found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
        return found

    @cached_property
    def _layers(self) -> list[str]:
        contract = next(one for one in self._settings["importlinter"]["contracts"] if one["type"] == "layers")
        return [name.strip() for line in contract["layers"] for name in line.split("|")]

    def layer(self, module: str) -> str:
        """Return the layer of a module; its package if it is in no layer."""
        held = [name for name in self._layers if module == name or module.startswith(f"{name}.")]
        return max(held, key=len, default=module.partition(".")[0])

    @cached_property
    def trees(self) -> dict[str, ast.Module]:
        """Syntax trees by module name."""
        return {name: ast.parse(path.read_text()) for name, path in self.modules.items()}

    def is_package(self, module: str) -> bool:
        return self.modules[module].name == "__init__.py"

    def imports(self, module: str) -> set[str]:
        """Return the modules of the wheel that a module imports, except imports for types only."""
        found = set()
        for node in _run(self.trees[module]):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    found.add(whole if whole in self.modules else node.module)
        return {name for name in found if name in self.modules} - {module}

    def opened(self, entries: Sequence[str]) -> list[str]:
        """Return the modules that a reader of the entries opens, by the rules in the docstring of this module."""
        inside = [name for name in self.modules if any(f"{name}.".startswith(f"{entry}.") for entry in entries)]
        home, seen, waiting = self.layer(entries[0]), set(inside), list(inside)
        while waiting:
            for name in self.imports(waiting.pop()) - seen:
                if self.is_package(name) or name in FOUNDATION:
                    continue
                seen.add(name)
                if self.layer(name) == home:
                    waiting.append(name)
        return sorted(seen)

    def entries(self, subject: str) -> list[str]:
        """Return the entry modules of a subject that exist in this checkout."""
        found = (next((name for name in names if name in self.modules), None) for names in SUBJECTS[subject])
        return [name for name in found if name is not None]


def _run(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes below a node, without those under `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        yield child
        yield from _run(child)


def public(tree: ast.Module) -> Iterator[ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield a module, its public classes and functions, and the public methods of these classes."""
    yield tree
    scopes: list[ast.Module | ast.ClassDef] = [tree]
    while scopes:
        for node in scopes.pop().body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name[0] != "_":
                yield node
                if isinstance(node, ast.ClassDef):
                    scopes.append(node)


def measure(checkout: Checkout) -> Figures:
    """Return the lines, the docstring coverage and the files opened for each subject of a checkout."""
    lines = [line for path in checkout.modules.values() for line in path.read_text().splitlines()]
    named = [node for tree in checkout.trees.values() for node in public(tree)]
    documented = sum(ast.get_docstring(node) is not None for node in named)
    subjects = {}
    for name in SUBJECTS:
        if entries := checkout.entries(name):
            opened = checkout.opened(entries)
            subjects[name] = {"entry": ", ".join(entries), "files": len(opened), "opened": opened}
    packages: dict[str, int] = {}
    for module, path in checkout.modules.items():
        top = module.partition(".")[0]
        packages[top] = packages.get(top, 0) + sum(bool(line.strip()) for line in path.read_text().splitlines())
    return {
        "files": len(checkout.modules),
        "lines": len(lines),
        "non_blank_lines": sum(bool(line.strip()) for line in lines),
        "packages": packages,
        "public": len(named),
        "documented": documented,
        "coverage": documented / len(named),
        "subjects": subjects,
    }


def cells(figures: Figures, before: Mapping[str, Any] | None = None) -> list[list[str]]:
    """Format as table cells, for each subject, the files opened, those before if given, and whether the aim is met."""
    rows = []
    for name, one in figures["subjects"].items():
        was = [] if before is None else [str(before["subjects"].get(name, {}).get("files", ""))]
        rows.append([name, *was, str(one["files"]), "yes" if one["files"] <= AIM else "", one["entry"]])
    return rows


@experiment("house")
@click.option(
    "--root", type=click.Path(path_type=Path), default=Path(), show_default=True, help="Root of the checkout."
)
@click.option("--before", type=click.Path(path_type=Path), help="Figures of an earlier checkout to compare with.")
def main(root: Path, before: Path | None) -> Figures:
    """Count the lines of the wheel, its docstrings, and the files that a reader opens."""
    figures = measure(Checkout(root))
    earlier = None if before is None else json.loads(before.read_text())
    facts = {"files": figures["files"], "lines": figures["lines"], "non-blank lines": figures["non_blank_lines"]}
    facts |= figures["packages"]
    print_facts("wheel", {**facts, "docstrings": f"{figures['coverage']:.1%} of {figures['public']:,}"})
    columns = ["subject", *(["before"] if earlier else []), "files opened", f"at most {AIM}", "entry"]
    print_table("", columns, cells(figures, earlier))
    return figures


if __name__ == "__main__":
    main()
