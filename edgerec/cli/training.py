"""The options of the commands that train one backbone within one budget, and the readers of their values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import click

from edgerec.budget import BITS_PER_VALUE
from edgerec.cli.help import RESEARCH, Choice, F, option
from edgerec.cli.options import seed_option, settings_options, threads_option
from edgerec.errors import RequestError, SettingError
from edgerec.methods import METHODS, default_backbone
from edgerec.methods.search import parse_workers
from edgerec.models import BACKBONES
from edgerec.models import backbone as find_backbone
from edgerec.request import AUTO, settings_of

MAX_EPOCHS = "15 for ials, 16 for lae, 25 for mf, 40 for ncf, 100 for lightgcn and ngcf, 1 for svd and neighbours"
PATIENCE = "2 for ials, 5 for mf and ncf, 6 for lae, 15 for lightgcn and ngcf, 1 for svd and neighbours"
"""The defaults of the backbones, whose classes are loaded when one is trained; a test compares the two."""


WORKERS = "N|ray|ray://HOST:PORT"
"""The values of --workers, for help."""


_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    option(
        "--budget",
        metavar="BUDGET",
        help="Size limit: a share of the full fp32 tables (10%), bytes of the whole bundle (512KiB), bytes per row "
        "(8B/row) or a parameter count (250000). Without it a full table is trained, which 'edgerec export' can fit to "
        "a size; all methods but dense require it.",
    ),
    option(
        "--backbone",
        type=Choice(BACKBONES),
        show_default="ials, or mf for a method that does not work with it",
        help="Model to train: implicit ALS (ials), matrix factorization with BPR (mf), NeuMF (ncf), a graph network "
        "(lightgcn, ngcf), a truncated SVD (svd), a linear autoencoder that is trained in the codes of the bundle "
        "(lae), or the nearest neighbours of each item (neighbours).",
    ),
    option(
        "--method",
        type=Choice(METHODS),
        show_default="popularity, or dense without a budget",
        help="How values are divided among rows within the budget: the same number for all (uniform), more for "
        "frequent users and items (popularity), a random number (random), the largest values after training "
        "(magnitude), values that sparse training selects (set, rigl, sparserec, pep), or numbers that a search finds "
        "by training many times (bet, ciess); dense gives all dimensions to every row and takes no budget.",
    ),
    option(
        "--precision",
        type=Choice([*BITS_PER_VALUE, AUTO]),
        default="fp32",
        help="Precision that the bundle will have, the default of 'edgerec export'; with a budget in bytes, int8 buys "
        "four times as many values. lae trains in the codes of int8, int4 and int2. With auto, bet and ciess choose "
        "the bits of each item of an svd.",
    ),
    option(
        "--dimensions",
        default=64,
        help="Number of dimensions of a full vector, the most that a row can have; of neighbours, values in a row.",
    ),
    seed_option,
    threads_option,
    option(
        "--device",
        default="cpu",
        metavar="NAME",
        help="Processor to train on: cpu, or cuda for a GPU; neighbours, set, rigl, sparserec and pep train on the "
        "CPU alone.",
    ),
    option("--epochs", type=click.IntRange(1), show_default=MAX_EPOCHS, help="Maximum number of training epochs."),
    option(
        "--split",
        default="random:80/20",
        metavar="SPLIT",
        section=RESEARCH,
        help="Split of the data in percent: random:80/20 (train/test of each user; a twentieth of train validates), "
        "random:50/25/25 (train/validation/test), random:50+25/25 (the same, and the final model also trains on "
        "validation), leave-one-out (a random item of each user tests), leave-last-out (the last item of each user "
        "tests, the one before validates), time:80/20 (the latest fifth tests), published (the test file of a folder "
        "such as gowalla tests; its validation file, or a twentieth of train, validates), or all (everything trains, "
        "and quality is not measured).",
    ),
    option(
        "--patience",
        type=click.IntRange(1),
        section=RESEARCH,
        show_default=PATIENCE,
        help="Number of epochs without a better validation NDCG@20 after which training stops.",
    ),
    option(
        "--sample-users",
        type=click.IntRange(2),
        metavar="N",
        show_default="all",
        help="Measure validation and test parts on a sample of N users, for large data.",
    ),
    option(
        "--mask-at",
        type=Choice(["output", "ego"]),
        section=RESEARCH,
        show_default="output",
        help="Vectors that lightgcn and ngcf truncate to the sizes of the rows while they train: output, those that "
        "the bundle stores, or ego, the embeddings before propagation, as the papers do.",
    ),
    option(
        "--workers",
        metavar=WORKERS,
        section=RESEARCH,
        show_default="this process",
        help="Where the searches bet and ciess evaluate sizes: in N processes here, on a Ray that is started here "
        "(ray), or on a Ray cluster (ray://HOST:PORT).",
    ),
    settings_options,
)


def training_options(command: F) -> F:
    """Add the options that `train_kwargs` and `workers_of` read."""
    for add in reversed(_OPTIONS):
        command = add(command)
    return command


def train_kwargs(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments of `TrainRequest.make`. Raises RequestError, SettingError."""
    names = ("method", "budget", "dimensions", "split", "precision")
    backbone = options["backbone"] or default_backbone(options["method"])
    return {
        "backbone": backbone,
        **{name: options[name] for name in names},
        "settings": _backbone_settings(backbone, options["settings"], options["mask_at"]),
        "method_settings": settings_of(options["method_settings"]),
        **{name: options[name] for name in ("seed", "threads", "device", "patience", "sample_users")},
        "max_epochs": options["epochs"],
    }


def workers_of(options: Mapping[str, Any]) -> int | str | None:
    """Return the value of --workers. Raises UnsupportedError."""
    return parsed_workers(None, None, options["workers"])


def parsed_workers(context: Any, parameter: Any, text: str | int | None) -> int | str | None:
    """Return the value of a --workers, as a callback of click. Raises UnsupportedError."""
    return None if text is None else parse_workers(str(text))


def _backbone_settings(backbone: str, pairs: Sequence[str], mask_at: str | None) -> dict[str, Any]:
    """Return the settings that --set and --mask-at give. Raises RequestError, SettingError."""
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
