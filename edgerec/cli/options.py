"""Options and readings that several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from edgerec.console import messages
from edgerec.data import Interactions, load_data

F = TypeVar("F", bound=Callable[..., Any])

FOLDER = click.Path(path_type=Path)

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


def filter_options(command: F) -> F:
    """--min-user and --min-item: the k-core filter."""
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


def load(data: str, min_user: int = 1, min_item: int = 1) -> Interactions:
    """Load a data set by name or path, with its source and licence told on standard error."""
    interactions = load_data(data, progress=lambda line: messages.print(line, markup=False))
    if min_user > 1 or min_item > 1:
        interactions = interactions.filter(min_user=min_user, min_item=min_item)
    return interactions


def raw_id(text: str, *, numbers: bool) -> int | str:
    """An id as given on the command line, of the kind that the ids in question have.

    Numbers that no id can be, of 64 bits, stay text: they are unknown, and Python reads no more than 4,300 digits.
    """
    return int(text) if numbers and re.fullmatch(r"-?\d{1,20}", text, re.ASCII) else text
