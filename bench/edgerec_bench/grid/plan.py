"""Plans of a grid: lists along six axes in a TOML file, and the cells that they span."""

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
"""In a budget's place, where a method has none."""
AXES: dict[str, tuple[type, ...]] = {
    "data": (str,),
    "backbone": (str,),
    "method": (str,),
    "budget": (str, int),
    "precision": (str,),
    "seed": (int,),
}
"""The lists of a plan and the types of their entries; a single value stands for a list of one."""

AUTO = "auto"
"""The precision of cells that are trained in full, and cut and quantised at export to the bytes of the budget."""

_OTHERS = ("settings", "method_settings", "skip", "timeout_minutes")


@dataclass(frozen=True)
class Shared:
    """What all cells of a plan have in common.

    Attributes:
        split, dimensions, epochs, patience: of the training; None for the backbone's own.
        min_user, min_item: the k-core filter of the data.
        layout: of the bundles; 'auto' is chosen for each, and told in its row.
        threads: of each cell. On one thread a row is the same to the bit whatever interrupts it.
    """

    split: str = "random:80/20"
    dimensions: int = 64
    epochs: int | None = None
    patience: int | None = None
    min_user: int = 1
    min_item: int = 1
    layout: str = "auto"
    threads: int = 1


_SHARED = {field.name: str if field.type == "str" else int for field in fields(Shared)}


@dataclass(frozen=True)
class Cell:
    """One training, its export and their measurement: everything that decides the outcome, in JSON's types.

    Attributes:
        data: a name or path that `load_data` takes.
        budget: None where the method takes none. Of the precision AUTO, of the bundle in bytes.
        settings, method_settings: of this backbone and this method.
        data_fingerprint: of the interactions; '' until they were looked at.
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
        """The six axes, for people."""
        return f"{self.data}/{self.backbone}/{self.method}/{self.budget or FULL}/{self.precision}/{self.seed}"

    @cached_property
    def key(self) -> str:
        """The name, and digits that change with anything else that decides the outcome."""
        return f"{self.name}@{hashlib.sha256(to_json(asdict(self))).hexdigest()[:8]}"

    @property
    def folder_name(self) -> str:
        """The key as the name of a folder."""
        return re.sub(r"[^\w.%@-]+", "-", self.key)[-120:]

    def request(self) -> TrainRequest:
        """What to train. Raises UnsupportedError, BudgetError, DataError."""
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
        """How to export it; `dense_bytes` are those of the full fp32 tables, of which a budget may be a share."""
        layout, precision = self.shared.layout, self.precision
        if precision != AUTO:
            return ExportRequest(layout=layout, precision=precision, verify=verify)
        budget = Budget.parse(self.budget or "")
        limit = int(budget.amount * dense_bytes if budget.kind == "share" else budget.amount)
        return ExportRequest(layout=layout, precision=AUTO, max_bytes=limit, fit=True, verify=verify)


@dataclass(frozen=True)
class Plan:
    """A grid: every combination of the axes, but for what does not exist and what is to be skipped.

    Attributes:
        data, backbone, method, budget, precision, seed: the axes.
        settings, method_settings: by backbone and by method; the text 'none' leaves a setting open.
        skip: a cell is left out where it has one of the values that an entry lists, for each axis that it names.
        timeout_minutes: of a cell in one call; what it had trained by then is gone on with by the next.
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
    def read(cls, path: Path) -> Plan:
        """Read a TOML file. Raises BenchError or BudgetError where it is no plan, StorageError."""
        content = read_bytes(path)
        try:
            fields = parse_toml(content)
        except ValueError as error:
            raise BenchError(f"{path} is no TOML ({error}); mend that line") from error
        return cls.parse(fields)

    @classmethod
    def parse(cls, wanted: Mapping[str, Any]) -> Plan:
        """Check what a TOML file held. Raises BenchError, BudgetError."""
        known = (*AXES, *_SHARED, *_OTHERS)
        unknown = sorted(set(wanted) - set(known))
        if unknown:
            raise BenchError(f"a plan has no {', '.join(unknown)}; it has: {', '.join(known)}")
        missing = [name for name in ("data", "backbone", "method") if not wanted.get(name)]
        if missing:
            raise BenchError(f"the plan lists no {' and no '.join(missing)}; give a list such as data = ['ml-100k']")
        minutes = wanted.get("timeout_minutes", cls.timeout_minutes)
        if type(minutes) not in (int, float) or minutes <= 0:
            raise BenchError(f"the plan's timeout_minutes must be a number above 0, got {minutes!r}")
        return cls(
            **{name: _axis(name, wanted[name]) for name in AXES if name in wanted},
            settings=_settings(wanted, "settings", "backbone"),
            method_settings=_settings(wanted, "method_settings", "method"),
            skip=_skips(wanted.get("skip", [])),
            shared=Shared(**{name: _shared(name, wanted[name]) for name in _SHARED if name in wanted}),
            timeout_minutes=minutes,
        )

    def cells(self) -> tuple[list[Cell], list[str]]:
        """The cells in the order of the axes, and a note for each pair of backbone and method that does not exist.

        Raises UnsupportedError, BudgetError, DataError for a cell that could not be trained: before any is.
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
        """The budgets and precisions of a method, the budgets first."""
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
    kind = _SHARED[name]
    if type(value) is not kind or (isinstance(value, int) and value < 1):
        expected = "text" if kind is str else "a whole number from 1 up"
        raise BenchError(f"the plan's {name} takes {expected}, got {value!r}")
    return value


def _settings(wanted: Mapping[str, Any], name: str, axis: str) -> dict[str, dict[str, Any]]:
    tables = wanted.get(name, {})
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise BenchError(f"the plan's {name} are by {axis}: write a table such as [{name}.NAME]")
    unused = sorted(set(tables) - set(_axis(axis, wanted[axis])))
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
