"""Options and readings that several commands share."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from edgerec.console import messages
from edgerec.data import Interactions, load_data, named_sets

F = TypeVar("F", bound=Callable[..., Any])


class PathType(click.Path):
    """The name of a file or folder, there or not, that the file system can have."""

    def __init__(self, *, file_okay: bool = True, dir_okay: bool = True) -> None:
        super().__init__(file_okay=file_okay, dir_okay=dir_okay, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not os.fspath(value):
            self.fail("a name is needed, and this one is empty", param, ctx)
        try:
            os.stat(value)  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            pass  # said where it is read or written
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            self.fail(f"{str(value)[:80]!r} cannot be a name here ({reason}); choose another", param, ctx)
        return super().convert(value, param, ctx)


class FiniteRange(click.FloatRange):
    """A range of numbers, without NaN, which lies outside no range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


FOLDER = PathType()

seed_option = click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of every random choice."
)
precision_option = click.option(
    "--precision",
    type=click.Choice(["fp32", "int8"]),
    default="fp32",
    show_default=True,
    help="That the bundle will have; decides how many values a budget in bytes buys.",
)
threads_option = click.option(
    "--threads", type=click.IntRange(1), help="At most so many; one is reproducible to the bit."
)

overwrite_option = click.option(
    "--overwrite", is_flag=True, help="Replace an output that exists and was not written by this command."
)


def data_path(data: str | None) -> Path | None:
    """The file or folder that DATA names; None for named sets, which lie in the cache, and for made-up data."""
    if data is None or data in named_sets() or data.partition(":")[0] == "synthetic":
        return None
    return Path(data)


encoding_option = click.option(
    "--encoding", help="Of text files of data.  [default: UTF-8, or Latin-1 for a file that is not]"
)


def filter_options(command: F) -> F:
    """--min-user and --min-item, the k-core filter, and --encoding: how data are read, as `load` takes it."""
    command = encoding_option(command)
    command = click.option(
        "--min-item", default=1, show_default=True, help="Drop items with fewer interactions (k-core)."
    )(command)
    return click.option(
        "--min-user", default=1, show_default=True, help="Drop users with fewer interactions (k-core)."
    )(command)


def settings_options(command: F) -> F:
    """--set and --method-set: settings of the backbone and of the method, which `settings_of` reads."""
    command = click.option(
        "--method-set",
        "method_settings",
        multiple=True,
        metavar="NAME=VALUE",
        help="A setting of the method; variant=paper starts from the config of its paper.",
    )(command)
    return click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A setting of the backbone.")(
        command
    )


def tell_of_nothing_to_resume(out: Path) -> None:
    """Say that --resume finds nothing and all is made: the name may be mistyped."""
    if not out.is_dir() or not any(out.iterdir()):
        messages.print(f"{out} holds nothing to resume: starting anew", markup=False)


def load(data: str, min_user: int = 1, min_item: int = 1, encoding: str | None = None) -> Interactions:
    """Load a data set by name or path; its source, its licence and how it was read are told on standard error."""
    interactions = load_data(data, encoding=encoding, progress=lambda line: messages.print(line, markup=False))
    if min_user > 1 or min_item > 1:
        interactions = interactions.filter(min_user=min_user, min_item=min_item)
    return interactions


def raw_id(text: str, *, numbers: bool) -> int | str:
    """An id as given on the command line, of the kind that the ids in question have.

    Numbers that no id can be, of 64 bits, stay text: they are unknown, and Python reads no more than 4,300 digits.
    """
    return int(text) if numbers and re.fullmatch(r"-?\d{1,20}", text, re.ASCII) else text
