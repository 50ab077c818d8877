"""Arguments and options that several commands share, and the readers of their values."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from edgerec.cli.help import DATA, RESEARCH, Choice, F, argument, option, suggestion
from edgerec.console import messages, tell
from edgerec.data import Interactions, named, named_sets
from edgerec.data.attributes import has_attributes
from edgerec.data.columns import OPTIONS
from edgerec.data.named import find_files
from edgerec.data.readers import Reading, ReadReport
from edgerec.errors import DataError, RequestError
from edgerec.runtime.ranking import MOST_RARITY


class PathType(click.Path):
    """The name of a file or folder, existing or not, that the file system can have.

    Args:
        name: what help calls it, 'file' or 'folder'.
    """

    def __init__(self, name: str = "path", *, file_okay: bool = True, dir_okay: bool = True) -> None:
        super().__init__(file_okay=file_okay, dir_okay=dir_okay, path_type=Path)
        self.name = name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not os.fspath(value):
            self.fail("the name is empty; give the name of a file or folder", param, ctx)
        try:
            os.stat(value)  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            pass  # reported by the code that reads or writes it
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            self.fail(f"{str(value)[:80]!r} cannot be a file name here ({reason}); choose another name", param, ctx)
        return super().convert(value, param, ctx)


class FiniteRange(click.FloatRange):
    """A range of numbers without NaN, which lies outside no range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


FOLDER = PathType("folder")
FILE = PathType("file", dir_okay=False)
FILE_OR_FOLDER = PathType("file")
"""A file by its help; a folder gets the command's own error."""

data_argument = argument(
    "data",
    default="ml-100k",
    help="Interactions: the name of a data set (see 'edgerec data list'), or files or a folder of your own "
    "(see 'edgerec data show --help').",
)
rarity_option = option(
    "--rarity",
    type=FiniteRange(-MOST_RARITY, MOST_RARITY),
    default=0,
    help="Name rare items more often, above 0, or popular ones, below 0; for a bundle without users of a linear "
    "encoder, as svd has.",
)
seed_option = option("--seed", type=click.IntRange(0), default=0, help="Seed of every random choice.")
precision_option = option(
    "--precision",
    type=Choice(["fp32", "int8"]),
    default="fp32",
    help="Precision that the bundle will have, the default of 'edgerec export'; with a budget in bytes, int8 buys "
    "four times as many values.",
)


def dimensions_option(default: int) -> Callable[[F], F]:
    """Return the option --dimensions with its default."""
    text = "Number of dimensions of a full vector, the most that a row can have."
    return option("--dimensions", type=click.IntRange(1), default=default, help=text)


threads_option = option(
    "--threads",
    type=click.IntRange(1),
    show_default="one per processor, but a single one in torch",
    help="Maximum number of threads; results are reproducible to the bit with one.",
)
overwrite_option = option(
    "--overwrite",
    is_flag=True,
    help="Replace an existing output in any case; without it, only one that is known to come from this command is "
    "replaced.",
)
encoding_option = option(
    "--encoding",
    metavar="NAME",
    section=DATA,
    show_default="UTF-8, or Latin-1 for a file that is not UTF-8",
    help="Character encoding of the data's text files.",
)

READING = (
    *("min_user", "min_item", "user_column", "item_column", "time_column", "rating_column"),
    *("where", "min_rating", "item_attributes", "encoding"),
)
"""Names of the values of `data_options`."""


def data_paths(data: str | None) -> list[Path]:
    """Return the files or the folder that DATA names; [] for named sets, which lie in the cache, and synthetic data."""
    if data is None or data in named_sets() or data.partition(":")[0] == "synthetic":
        return []
    try:
        return find_files(data)
    except DataError:
        return [Path(data)]  # reported by `load`


def data_inputs(data: str | None, options: Mapping[str, Any]) -> list[Path | None]:
    """Return the files that `load` reads, which no output may replace."""
    return [*data_paths(data), options["item_attributes"]]


def reading_options(command: F) -> F:
    """Add the options that say how the files of the data are read, which `load` takes."""
    command = encoding_option(command)
    command = option(
        "--item-attributes",
        type=FILE,
        section=DATA,
        help="Table of items with a title or a category column; it replaces those of the data.",
    )(command)
    command = option(
        "--min-rating", type=float, section=DATA, help="Minimum rating of an interaction; others are dropped."
    )(command)
    command = option(
        "--where",
        metavar="SQL",
        section=DATA,
        help="Condition on the data's columns, such as \"price > 10 AND country = 'DE'\"; interactions for which it is "
        "not true are dropped.",
    )(command)
    for role, name in reversed(OPTIONS.items()):
        known = {"user": "user_id, customer_id", "item": "item_id, sku", "time": "timestamp, date", "rating": "rating"}
        rest = "" if role in ("user", "item") else "; none reads no such column"
        command = option(
            name,
            metavar="NAME",
            section=DATA,
            show_default=f"a common name, such as {known[role]}",
            help=f"Column of the {role}, or its number in a file without a header{rest}.",
        )(command)
    return command


def data_options(command: F) -> F:
    """Add `reading_options`, and --min-user and --min-item, the k-core filter, which `load` takes."""
    command = reading_options(command)
    for side in ("item", "user"):
        command = option(
            f"--min-{side}",
            default=1,
            type=click.IntRange(1),
            section=DATA,
            help=f"Minimum number of interactions of {'an' if side == 'item' else 'a'} {side}; {side}s with fewer are "
            "dropped, repeatedly (k-core).",
        )(command)
    return command


def check_data_given(data: str | None, options: Mapping[str, Any]) -> None:
    """Raise RequestError if options of `data_options` are given without --data."""
    given = [parameter for parameter in READING if options[parameter] not in (None, 1)]
    if data is None and given:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise RequestError(f"{names} say how the files of --data are read; give --data too")


def settings_options(command: F) -> F:
    """Add --set and --method-set: settings of the backbone and of the method, which `settings_of` reads."""
    command = option(
        "--method-set",
        "method_settings",
        multiple=True,
        metavar="NAME=VALUE",
        section=RESEARCH,
        help="Setting of the method, such as exponent=0.5, or variant=paper for its paper's settings; may be repeated. "
        "A wrong name lists all names.",
    )(command)
    return option(
        "--set",
        "settings",
        multiple=True,
        metavar="NAME=VALUE",
        section=RESEARCH,
        help="Setting of the backbone, such as reg=0.1; may be repeated. A wrong name lists all names.",
    )(command)


def warn_if_nothing_to_resume(out: Path) -> None:
    """Print that --resume found nothing and training starts from scratch: the name may be mistyped."""
    if not out.is_dir() or not any(out.iterdir()):
        messages.print(f"{out} holds nothing to resume: starting from scratch", markup=False)


def load(data: str, options: Mapping[str, Any]) -> Interactions:
    """Load a data set by name or path; its source, licence and how it was read are printed on standard error.

    Args:
        options: the values of `reading_options` or `data_options`.
    """
    return load_reported(data, options)[0]


def reading_of(options: Mapping[str, Any]) -> Reading:
    """Return how files are read, by the values of `reading_options`. Raises DataError."""
    columns = {role: options[f"{role}_column"] for role in OPTIONS if options[f"{role}_column"] is not None}
    return Reading(options["encoding"], tell, columns, options["where"], options["min_rating"])


def load_reported(data: str, options: Mapping[str, Any]) -> tuple[Interactions, ReadReport]:
    """Load a data set as `load` does; return what was read too, before --min-user and --min-item."""
    try:
        reading, attributes = reading_of(options), options["item_attributes"]
        if attributes is not None and options.get("attributes") and not has_attributes(attributes, reading):
            attributes = None  # only the columns of --attributes are read of it
        interactions, report = named.load_reported(data, reading, attributes=attributes)
    except DataError as error:
        places = data_paths(data)
        if not places or places[0].exists():
            raise
        raise type(error)(f"{error}{suggestion(data, named_sets())}") from error
    min_user, min_item = options.get("min_user", 1), options.get("min_item", 1)
    if min_user > 1 or min_item > 1:
        before, interactions = len(interactions), interactions.filter(min_user=min_user, min_item=min_item)
        tell(f"--min-user and --min-item drop {before - len(interactions):,} of {before:,} interactions")
    return interactions, report


def raw_id(text: str, *, numbers: bool) -> int | str:
    """Return an id of the command line as a number or as text, as the ids that it is looked up in are.

    Numbers beyond 64 bits stay text: no id has them, and Python reads at most 4,300 digits.
    """
    return int(text) if numbers and re.fullmatch(r"-?\d{1,20}", text, re.ASCII) else text
