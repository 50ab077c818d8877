"""Arguments and options that several commands share, and the readers of their values."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from edgerec.cli.help import DATA, RESEARCH, Choice, F, argument, option, suggestion
from edgerec.console import messages
from edgerec.data import Interactions, load_data, named_sets
from edgerec.errors import DataError


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
    help="Interactions: the name of a data set (see 'edgerec data list'), or a file or folder of your own "
    "(see 'edgerec data show --help').",
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


def data_path(data: str | None) -> Path | None:
    """Return the file or folder that DATA names; None for named sets, which lie in the cache, and synthetic data."""
    if data is None or data in named_sets() or data.partition(":")[0] == "synthetic":
        return None
    return Path(data)


def filter_options(command: F) -> F:
    """Add --min-user and --min-item, the k-core filter, and --encoding, which `load` takes."""
    command = encoding_option(command)
    for side in ("item", "user"):
        command = option(
            f"--min-{side}",
            default=1,
            section=DATA,
            help=f"Minimum number of interactions of {'an' if side == 'item' else 'a'} {side}; {side}s with fewer are "
            "dropped, repeatedly (k-core).",
        )(command)
    return command


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


def load(data: str, min_user: int = 1, min_item: int = 1, encoding: str | None = None) -> Interactions:
    """Load a data set by name or path; its source, licence and how it was read are printed on standard error."""
    try:
        interactions = load_data(data, encoding=encoding, progress=lambda line: messages.print(line, markup=False))
    except DataError as error:
        place = data_path(data)
        if place is None or place.exists():
            raise
        raise type(error)(f"{error}{suggestion(data, named_sets())}") from error
    if min_user > 1 or min_item > 1:
        interactions = interactions.filter(min_user=min_user, min_item=min_item)
    return interactions


def raw_id(text: str, *, numbers: bool) -> int | str:
    """Return an id of the command line as a number or as text, as the ids that it is looked up in are.

    Numbers beyond 64 bits stay text: no id has them, and Python reads at most 4,300 digits.
    """
    return int(text) if numbers and re.fullmatch(r"-?\d{1,20}", text, re.ASCII) else text
