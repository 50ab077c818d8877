"""Grid plans: lists along six axes in a TOML file, and the cells that they span."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from edgerec.budget import Budget
from edgerec.errors import BenchError, UnsupportedError
from edgerec.files import read_bytes, to_json
from edgerec.json_records import parse_toml
from edgerec.methods import METHODS, Method
from edgerec.methods import method as find_method
from edgerec.models import backbone as find_backbone
from edgerec.request import TrainRequest
from edgerec_export import ExportRequest
from edgerec_export.layouts import layout

FULL = "full"
"""The text that stands for the budget of a method without one."""
AXES: dict[str, tuple[type, ...]] = {
    "data": (str,),
    "backbone": (str,),
    "method": (str,),
    "budget": (str, int),
    "precision": (str,),
    "seed": (int,),
}
"""The lists of a plan and the types of their entries. A single value stands for a list of one."""

AUTO = "auto"
"""The precision of cells that are trained in full, then truncated and quantised at export to fit their budget."""

_OTHERS = ("settings", "method_settings", "skip", "timeout_minutes")


@dataclass(frozen=True)
class Shared:
    """The settings that all cells of a plan share.

    Attributes:
        split, dimensions, epochs, patience: settings of the training; None takes the backbone's default.
        min_user, min_item: the k-core filter of the data.
        encoding: character encoding of the data's text files, as `load_data` takes it; None for UTF-8 or Latin-1.
        layout: layout of the bundles; with 'auto' each row records the chosen one.
        users: False for bundles without a user table, which compute users from their histories.
        threads: threads of each cell. With one thread a row is identical bit for bit, even if its cell was interrupted.
    """

    split: str = "random:80/20"
    dimensions: int = 64
    epochs: int | None = None
    patience: int | None = None
    min_user: int = 1
    min_item: int = 1
    encoding: str | None = None
    layout: str = "auto"
    users: bool = True
    threads: int = 1


_KINDS: dict[str, tuple[type, str]] = {
    "str": (str, "text"),
    "int": (int, "a whole number from 1 up"),
    "bool": (bool, "true or false"),
}
_SHARED = {field.name: _KINDS[field.type.partition(" ")[0]] for field in fields(Shared)}
"""The type of each shared setting, and its name for people."""


@dataclass(frozen=True)
class Cell:
    """One training, its export and their measurement: everything that decides the outcome, in JSON types.

    Attributes:
        data: a name or path that `load_data` accepts.
        budget: budget of the training; None if the method takes none. With the precision AUTO, size of the bundle.
        settings, method_settings: settings of the backbone and of the method.
        data_fingerprint: fingerprint of the interactions; '' until they are loaded.
    """

    data: str
    backbone: str
    method: str
    budget: str | None
    precision: str
    seed: int
    settings: dict[str, Any]
    method_settings: dict[str, Any]
    shared: Shared
    data_fingerprint: str = ""

    @property
    def name(self) -> str:
        """The six axes as readable text."""
        return f"{self.data}/{self.backbone}/{self.method}/{self.budget or FULL}/{self.precision}/{self.seed}"

    @cached_property
    def key(self) -> str:
        """The name and a hash of everything that decides the outcome."""
        return f"{self.name}@{hashlib.sha256(to_json(self.to_json())).hexdigest()[:8]}"

    def to_json(self) -> dict[str, Any]:
        """Return everything that decides the outcome, as rows store it; without later settings that were not given."""
        cell = asdict(self)
        for name, usual in (("encoding", None), ("users", True)):
            if cell["shared"][name] is usual:
                del cell["shared"][name]
        return cell

    @property
    def folder_name(self) -> str:
        """The key as a folder name."""
        return re.sub(r"[^\w.%@-]+", "-", self.key)[-120:]

    def request(self) -> TrainRequest:
        """Return the training request. Raises UnsupportedError, BudgetError, DataError."""
        shared, fitted = self.shared, self.precision == AUTO
        if fitted and find_method(self.method, self.backbone).budgeted:
            raise UnsupportedError(
                f"the precision 'auto' fits a full table into its budget at export, and {self.method} trains within "
                f"one; skip the pair: skip = [{{ method = '{self.method}', precision = 'auto' }}]"
            )
        if fitted and Budget.parse(self.budget or "").kind not in ("share", "bytes"):
            raise UnsupportedError(f"the precision 'auto' takes budgets such as '10%' and '64KiB', not {self.budget!r}")
        return TrainRequest.make(
            self.backbone,
            self.method,
            budget=None if fitted else self.budget,
            dimensions=shared.dimensions,
            split=shared.split,
            precision="fp32" if fitted else self.precision,
            settings=self.settings,
            method_settings=self.method_settings,
            seed=self.seed,
            threads=shared.threads,
            max_epochs=shared.epochs,
            patience=shared.patience,
        )

    def options(self, dense_bytes: int, *, verify: bool) -> ExportRequest:
        """Return the export options. `dense_bytes` is the size of the full fp32 tables, to which a share refers."""
        how: dict[str, Any] = {"layout": self.shared.layout, "users": self.shared.users, "verify": verify}
        if self.precision != AUTO:
            return ExportRequest(precision=self.precision, **how)
        budget = Budget.parse(self.budget or "")
        limit = int(budget.amount * dense_bytes if budget.kind == "share" else budget.amount)
        return ExportRequest(precision=AUTO, max_bytes=limit, fit=True, **how)


@dataclass(frozen=True)
class GridPlan:
    """A grid: every combination of the axes, without unsupported and skipped ones.

    Attributes:
        data, backbone, method, budget, precision, seed: the axes.
        settings, method_settings: settings by backbone and by method; the text 'none' stands for None.
        skip: entries that leave out cells: those with one of the listed values on each axis that the entry names.
        timeout_minutes: time limit of a cell in one call; the next call resumes from the last epoch.
    """

    data: tuple[str, ...]
    backbone: tuple[str, ...]
    method: tuple[str, ...]
    budget: tuple[str, ...] = ()
    precision: tuple[str, ...] = ("fp32",)
    seed: tuple[int, ...] = (0,)
    settings: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    method_settings: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    skip: tuple[dict[str, tuple[Any, ...]], ...] = ()
    shared: Shared = field(default_factory=Shared)
    timeout_minutes: float = 60.0

    @classmethod
    def read(cls, path: Path) -> GridPlan:
        """Read a TOML file. Raises BenchError or BudgetError if it is no valid plan, StorageError."""
        content = read_bytes(path)
        try:
            fields = parse_toml(content)
        except ValueError as error:
            raise BenchError(f"{path} is not valid TOML ({error}); fix that line") from error
        return cls.parse(fields)

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> GridPlan:
        """Make a plan from the fields of a TOML file, and check them. Raises BenchError, BudgetError."""
        known = (*AXES, *_SHARED, *_OTHERS)
        unknown = sorted(set(fields) - set(known))
        if unknown:
            raise BenchError(f"a plan has no {', '.join(unknown)}; it has: {', '.join(known)}")
        missing = [name for name in ("data", "backbone", "method") if not fields.get(name)]
        if missing:
            raise BenchError(f"the plan lists no {' and no '.join(missing)}; give a list such as data = ['ml-100k']")
        minutes = fields.get("timeout_minutes", cls.timeout_minutes)
        if type(minutes) not in (int, float) or minutes <= 0:
            raise BenchError(f"the plan's timeout_minutes must be a number above 0, got {minutes!r}")
        return cls(
            **{name: _axis(name, fields[name]) for name in AXES if name in fields},
            settings=_settings(fields, "settings", "backbone"),
            method_settings=_settings(fields, "method_settings", "method"),
            skip=_skips(fields.get("skip", [])),
            shared=Shared(**{name: _shared(name, fields[name]) for name in _SHARED if name in fields}),
            timeout_minutes=minutes,
        )

    def cells(self) -> tuple[list[Cell], list[str]]:
        """Return the cells in the order of the axes, and a note for each unsupported pair of backbone and method.

        Raises UnsupportedError, BudgetError, DataError if a cell could not be trained.
        """
        pairs, notes = self._pairs()
        listed = [
            Cell(
                *(data, backbone, method.name, budget, precision, seed),
                self.settings.get(backbone, {}),
                self.method_settings.get(method.name, {}),
                self.shared,
            )
            for data, (backbone, method) in product(self.data, pairs)
            for budget, precision in self._forms(method)
            for seed in self.seed
        ]
        cells = [cell for cell in listed if not any(_matches(cell, entry) for entry in self.skip)]
        for cell in cells:
            cell.request()
        if self.shared.layout != "auto":
            layout(self.shared.layout)
        return cells, notes

    def _pairs(self) -> tuple[list[tuple[str, Method]], list[str]]:
        pairs, notes = [], []
        for backbone, name in product(self.backbone, self.method):
            try:
                pairs.append((backbone, find_method(name, backbone)))
            except UnsupportedError as error:
                find_backbone(backbone)
                if name not in METHODS:
                    raise
                notes.append(f"left out: {error}")
        return pairs, notes

    def _forms(self, method: Method) -> list[tuple[str | None, str]]:
        """Return the pairs of budget and precision to train a method with."""
        needed = [name for name in self.precision if method.budgeted or name == AUTO]
        if needed and not self.budget:
            whose = f"the method {method.name!r}" if method.budgeted else "the precision 'auto'"
            raise BenchError(f"{whose} needs a budget; give the plan a list such as budget = ['10%']")
        free = [(None, name) for name in self.precision if name not in needed]
        return [*free, *product(self.budget, needed)]


def _axis(name: str, value: Any) -> tuple[Any, ...]:
    values = value if isinstance(value, list) else [value]
    for entry in values:
        if type(entry) not in AXES[name]:
            kinds = " or ".join(kind.__name__ for kind in AXES[name])
            raise BenchError(f"the plan's {name} takes {kinds}, got {entry!r}")
    return tuple(dict.fromkeys(str(Budget.parse(str(entry))) if name == "budget" else entry for entry in values))


def _shared(name: str, value: Any) -> Any:
    kind, expected = _SHARED[name]
    if type(value) is not kind or (type(value) is int and value < 1):
        raise BenchError(f"the plan's {name} takes {expected}, got {value!r}")
    return value


def _settings(fields: Mapping[str, Any], name: str, axis: str) -> dict[str, dict[str, Any]]:
    tables = fields.get(name, {})
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise BenchError(f"the plan's {name} are by {axis}: write a table such as [{name}.NAME]")
    unused = sorted(set(tables) - set(_axis(axis, fields[axis])))
    if unused:
        raise BenchError(f"the plan has {name} of {', '.join(unused)}, which is none of its {axis}s")
    return {
        whose: {setting: None if value == "none" else value for setting, value in table.items()}
        for whose, table in tables.items()
    }


def _skips(entries: Any) -> tuple[dict[str, tuple[Any, ...]], ...]:
    if not isinstance(entries, list):
        raise BenchError(f"the plan's skip takes a list such as [{{ method = 'bet' }}], got {entries!r}")
    return tuple(map(_skip, entries))


def _skip(entry: Any) -> dict[str, tuple[Any, ...]]:
    if not isinstance(entry, dict) or not entry or not set(entry) <= set(AXES):
        raise BenchError(f"an entry of the plan's skip names some of {', '.join(AXES)}, got {entry!r}")
    return {name: _axis(name, value) for name, value in entry.items()}


def _matches(cell: Cell, entry: Mapping[str, tuple[Any, ...]]) -> bool:
    return all(getattr(cell, name) in values for name, values in entry.items())
