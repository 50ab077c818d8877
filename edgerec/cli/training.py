"""What trains, as options: the same of every command that trains one backbone within one budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar

import click

from edgerec.cli.options import precision_option, seed_option, settings_options, threads_option
from edgerec.errors import RequestError, SettingError
from edgerec.methods import METHODS
from edgerec.methods.search.workers import parse_workers
from edgerec.models import BACKBONES
from edgerec.models import backbone as find_backbone
from edgerec.request import settings_of

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option("--backbone", type=click.Choice(BACKBONES), default="ials", show_default=True, help="How to score."),
    click.option(
        "--method", type=click.Choice(METHODS), default="popularity", show_default=True, help="How to keep the budget."
    ),
    click.option("--budget", help="10% of the dense fp32 tables, 512KiB of bundle, 8B/row, or a parameter count."),
    click.option("--dimensions", default=64, show_default=True, help="Dimensions of a full row."),
    click.option(
        "--split",
        default="random:80/20",
        show_default=True,
        help="random:80/20, random:50/25/25, random:50+25/25, leave-last-out or time:80/20.",
    ),
    seed_option,
    precision_option,
    threads_option,
    click.option("--device", default="cpu", show_default=True, help="cpu or cuda, for backbones on torch."),
    click.option("--epochs", type=click.IntRange(1), help="At most so many."),
    click.option("--patience", type=click.IntRange(1), help="Epochs without a better NDCG@20 before it stops."),
    click.option(
        "--mask-at",
        type=click.Choice(["output", "ego"]),
        help="Where sizes cut lightgcn and ngcf in training: output, what ships (the default), or ego, the rows before "
        "propagation.",
    ),
    click.option(
        "--workers", help="Who judges sizes in a search: so many processes, or a Ray cluster: ray, ray://HOST:PORT."
    ),
    settings_options,
)


def training_options(command: F) -> F:
    """The options that `train_kwargs` and `workers_of` read."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def train_kwargs(given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `TrainRequest.make`. Raises RequestError, SettingError."""
    names = ("backbone", "method", "budget", "dimensions", "split", "precision")
    return {
        **{name: given[name] for name in names},
        "settings": _backbone_settings(given["backbone"], given["settings"], given["mask_at"]),
        "method_settings": settings_of(given["method_settings"]),
        **{name: given[name] for name in ("seed", "threads", "device", "patience")},
        "max_epochs": given["epochs"],
    }


def workers_of(given: Mapping[str, Any]) -> int | str | None:
    """What --workers gives. Raises UnsupportedError."""
    return None if given["workers"] is None else parse_workers(given["workers"])


def _backbone_settings(backbone: str, pairs: Sequence[str], mask_at: str | None) -> dict[str, Any]:
    """What --set and --mask-at give. Raises RequestError, SettingError."""
    settings = settings_of(pairs)
    if mask_at is None:
        return settings
    if "mask_at" in settings:
        raise RequestError("--mask-at and --set mask_at=... are the same setting; give one of them")
    if "mask_at" not in {setting.name for setting in fields(find_backbone(backbone).config)}:
        raise SettingError(
            f"--mask-at is for backbones that propagate, such as lightgcn, not for {backbone}; leave it out"
        )
    return {**settings, "mask_at": mask_at}
