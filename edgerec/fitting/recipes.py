"""Recipes of trainings that `fit` tries, in an order that depends on the data, the size and the results so far."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgerec.errors import UnsupportedError
from edgerec.methods import method as find_method
from edgerec.models.neighbours import MOST_ITEMS

CLOSED = ("svd", "ials")
"""Backbones with a solution in closed form, which take seconds and are tried first."""
CODED = "lae"
"""The backbone whose rows are trained in the codes of the bundle, within its size."""
NEIGHBOURS = "neighbours"
"""The backbone of few values in a row, whose columns are items."""
NEIGHBOURS_VALUES = 32
"""Values of its rows before the export prunes them to the size."""
FEW_INTERACTIONS = 30
"""Mean interactions of a user up to which `NEIGHBOURS` is tried: with 9 (Amazon Beauty) it is far ahead of the others
in as many bytes, with 49 (Last.fm) and 106 (MovieLens) behind."""
LEAST_BYTES = 6
"""Bytes of the bundle an item from which it is tried: those of an id, a history weight and a neighbour."""
FEW_BYTES = 16
"""Bytes of the bundle an item below which its rows have two bits a value rather than four."""
WITHOUT_USERS = ("svd", CODED, NEIGHBOURS)
"""Backbones that have no user table."""
USERS_ALWAYS = ("ncf",)
"""Backbones that have no encoder of histories."""
SOLVED_SHARE = 0.125
"""Largest share of the bundle that the matrix of the encoder 'least_squares' of `CODED` may take."""
LEVEL = 0.97
"""Share of the best closed form's score from which iALS is level with it, since rounded items are solved again: on
Last.fm, 18 bytes an item, iALS is 1 % behind svd, and the solved items are 2 % ahead of both."""
GRADIENT = {"mf": 6, "lightgcn": 16}
"""Backbones that are trained by gradient, with the epochs of their first, short training."""
LATE = {"ngcf": 16, "ncf": 6}
"""The same, tried last: on most data they are slower and no better."""
PROMISING = 0.9
"""A short training is followed by a whole one if its score is at least this share of the best."""
LEAST_DIMENSIONS, MOST_DIMENSIONS = 8, 512


@dataclass(frozen=True)
class Recipe:
    """A training that `fit` tries; its tables are exported in several ways.

    Attributes:
        backbone, method, dimensions, precision: those of `edgerec.train`.
        within: True if tables are trained within the size of the bundle; False for full tables, which are fitted at
            export.
        max_epochs: maximum of a short training; None for a whole one.
        encoder: the encoder of `CODED`; None for its own default, and for other backbones.
    """

    backbone: str
    dimensions: int
    method: str = "dense"
    within: bool = False
    precision: str = "fp32"
    max_epochs: int | None = None
    encoder: str | None = None

    @property
    def name(self) -> str:
        """The name for people: 'svd 64' or 'ials 64 popularity int8'."""
        words = [self.backbone, str(self.dimensions)]
        words += [self.method, self.precision] if self.within else []
        words += [self.encoder] if self.encoder else []
        return " ".join([*words, f"{self.max_epochs} epochs"] if self.max_epochs else words)

    def train_kwargs(self, max_bytes: int | None) -> dict[str, Any]:
        """Return keyword arguments of `edgerec.train`, for bundles of `max_bytes`."""
        return {
            "backbone": self.backbone,
            "method": self.method,
            "budget": f"{max_bytes}B" if self.within else None,
            "dimensions": self.dimensions,
            "precision": self.precision,
            "settings": {"encoder": self.encoder} if self.encoder else None,
            "max_epochs": self.max_epochs,
        }

    def train_options(self, max_bytes: int | None) -> list[str]:
        """Return the options of 'edgerec train' that repeat the training."""
        words = ["--backbone", self.backbone, "--method", self.method, "--dimensions", str(self.dimensions)]
        if self.within:
            words += ["--budget", f"{max_bytes}B", "--precision", self.precision]
        if self.encoder:
            words += ["--set", f"encoder={self.encoder}"]
        if self.max_epochs:
            words += ["--epochs", str(self.max_epochs)]
        return words


@dataclass(frozen=True)
class Variant:
    """One way to export a training.

    Attributes:
        users: True to include the user table; False to compute users from histories.
        precision: 'auto' for mixed precisions and row sizes that are fitted to the size.
    """

    users: bool
    precision: str

    @property
    def name(self) -> str:
        """The name for people: 'auto, user table' or 'auto, histories'."""
        return f"{self.precision}, {'user table' if self.users else 'histories'}"

    def export_options(self, max_bytes: int) -> list[str]:
        """Return the options of 'edgerec export' that repeat the export."""
        words = ["--precision", self.precision, "--fit", "--max-bytes", str(max_bytes)]
        return words if self.users else [*words, "--no-users"]


@dataclass(frozen=True)
class Tried:
    """A recipe with the best score of its bundles, None if it failed."""

    recipe: Recipe
    score: float | None


def usual_dimensions(n_items: int, max_bytes: int | None) -> int:
    """Return the power of two from 16 to 256 that is nearest to rows of 4 bits that fill the size, or 64 without one.

    Fitted rows have 2 to 8 bits a value, and the less frequent ones are shorter, so that it is no more than a start.
    Few items have fewer dimensions.
    """
    if max_bytes is None:
        return min(64, _most_dimensions(n_items))
    values = max(2.0 * max_bytes / max(n_items, 1), 1.0)
    return min(int(2 ** min(max(round(math.log2(values)), 4), 8)), _most_dimensions(n_items))


def _most_dimensions(n_items: int) -> int:
    """Return the maximum number of dimensions to try: a table of rank `n_items` needs no more."""
    return min(max(1 << (n_items - 1).bit_length(), LEAST_DIMENSIONS), MOST_DIMENSIONS)


def next_recipe(
    tried: Sequence[Tried], n_items: int, max_bytes: int | None, users: bool | None, per_user: float = math.inf
) -> Recipe | None:
    """Return the recipe to try next, or None if nothing is left; equal results lead to equal recipes.

    Args:
        users: True for bundles with a user table, False for bundles without, None for either.
        per_user: mean number of interactions of a user.
    """
    return first_untried(_recipes(tried, n_items, max_bytes, users, per_user), tried)


def first_untried(recipes: Iterable[Recipe], tried: Sequence[Tried]) -> Recipe | None:
    """Return the first of these recipes that was not tried, or None."""
    known = {one.recipe for one in tried}
    return next((one for one in recipes if one not in known), None)


def _recipes(
    tried: Sequence[Tried], n_items: int, max_bytes: int | None, users: bool | None, per_user: float
) -> Iterator[Recipe]:
    """Yield recipes in order of preference, those that were tried among them."""
    first = usual_dimensions(n_items, max_bytes)
    closed = [backbone for backbone in CLOSED if not users or backbone not in WITHOUT_USERS]
    yield from (Recipe(backbone, first) for backbone in closed)
    fits = max_bytes is None or max_bytes >= LEAST_BYTES * n_items
    if users is not True and per_user <= FEW_INTERACTIONS and n_items <= MOST_ITEMS and fits:
        yield Recipe(NEIGHBOURS, NEIGHBOURS_VALUES)
    if max_bytes is not None and users is not True:
        yield from _coded(tried, n_items, max_bytes)
        yield from _solved(tried, n_items, max_bytes)
        # Where most items are rare it is ahead of full tables that are fitted afterwards, and takes as little time.
        yield from _varied(tried, Recipe("svd", 64, "popularity", within=True, precision="int4"), "int8", n_items)
    for backbone in closed:
        yield from _other_dimensions(tried, Recipe(backbone, first), n_items)
    dimensions = min(_best_dimensions(tried, first), 64)
    yield from _by_gradient(tried, GRADIENT, dimensions, n_items)
    if max_bytes is not None:
        yield from _within(tried, users)
    late = {name: epochs for name, epochs in LATE.items() if users is not False or name not in USERS_ALWAYS}
    yield from _by_gradient(tried, late, dimensions, n_items)


def _by_gradient(
    tried: Sequence[Tried], backbones: Mapping[str, int], dimensions: int, n_items: int
) -> Iterator[Recipe]:
    """Yield a short training of each backbone, and if it is promising a whole one and other dimensions."""
    for backbone, epochs in backbones.items():
        short = Recipe(backbone, dimensions, max_epochs=epochs)
        yield short
        if _is_promising(tried, short):
            whole = replace(short, max_epochs=None)
            yield whole
            yield from _other_dimensions(tried, whole, n_items)


def _coded(tried: Sequence[Tried], n_items: int, max_bytes: int) -> Iterator[Recipe]:
    """Yield trainings in codes, with the usual bits first."""
    precisions = ("int2", "int4") if max_bytes < FEW_BYTES * n_items else ("int4", "int2")
    usual = Recipe(CODED, 64, "popularity", within=True, precision=precisions[0])
    yield from _varied(tried, usual, precisions[1], n_items)


def _solved(tried: Sequence[Tried], n_items: int, max_bytes: int) -> Iterator[Recipe]:
    """Yield trainings in codes whose users are solved, where iALS is level with the other closed forms or ahead: many
    dimensions in 2 bits, and half as many in 4.

    A fit of full tables takes fewer dimensions in more bits there, such as 4 and 8 bits for 256 dimensions of Gowalla
    in 70 bytes an item, since it minimises the error of scores.
    """
    closed = [one for one in tried if one.recipe.backbone in CLOSED and not one.recipe.within and one.score is not None]
    dimensions = min(2 * usual_dimensions(n_items, max_bytes), _most_dimensions(n_items))
    while 4 * dimensions**2 > SOLVED_SHARE * max_bytes:
        dimensions //= 2
    best = max((one.score or 0.0 for one in closed), default=0.0)
    solved = max((one.score or 0.0 for one in closed if one.recipe.backbone == "ials"), default=0.0)
    if solved > LEVEL * best and dimensions >= LEAST_DIMENSIONS:
        usual = Recipe(CODED, dimensions, "popularity", within=True, precision="int2", encoder="least_squares")
        fewer = replace(usual, dimensions=max(dimensions // 2, LEAST_DIMENSIONS), precision="int4")
        yield from (usual, fewer)
        scores = {one.recipe: one.score or 0.0 for one in tried}
        better, other = (fewer, usual) if scores.get(fewer, 0.0) > scores.get(usual, 0.0) else (usual, fewer)
        yield from _varied(tried, better, other.precision, n_items)


def _varied(tried: Sequence[Tried], usual: Recipe, precision: str, n_items: int) -> Iterator[Recipe]:
    """Yield a recipe within the size, and if its kind is the best so far the other precision and other dimensions."""
    yield usual
    best = max(tried, key=lambda one: one.score or 0.0, default=None)
    if best is not None and _kind(best.recipe) == _kind(usual):
        yield replace(usual, precision=precision)
        yield from _other_dimensions(tried, usual, n_items)


def _kind(recipe: Recipe) -> tuple[str, str, str | None]:
    return recipe.backbone, recipe.method, recipe.encoder


def _other_dimensions(tried: Sequence[Tried], first: Recipe, n_items: int) -> Iterator[Recipe]:
    """Yield twice and half the dimensions, as long as the score rises."""
    for factor in (2.0, 0.5):
        scores = {one.recipe: one.score for one in tried}
        at = first
        while True:
            following = replace(at, dimensions=int(at.dimensions * factor))
            if not LEAST_DIMENSIONS <= following.dimensions <= _most_dimensions(n_items):
                break
            yield following
            if (scores.get(following) or 0.0) <= (scores.get(at) or 0.0):
                break
            at = following


def _within(tried: Sequence[Tried], users: bool | None) -> Iterator[Recipe]:
    """Yield trainings within the size: rules, then the sparse and searched tables of the papers."""
    ranked = sorted((one for one in tried if one.score is not None), key=lambda one: -(one.score or 0.0))
    whole = [one.recipe.backbone for one in ranked if not one.recipe.max_epochs]
    backbones = [backbone for backbone in dict.fromkeys(whole) if backbone not in (CODED, NEIGHBOURS)]
    for method in ("popularity", "uniform", "magnitude"):
        for backbone in backbones[:2]:
            if users is not False or backbone in WITHOUT_USERS:
                yield Recipe(backbone, 64, method, within=True, precision="int8")
    for method in ("sparserec", "bet", "ciess"):
        # An svd is fitted to the size at export, which takes less time than a search of its sizes and bits.
        for backbone in (one for one in backbones if one != "svd"):
            if users is not False and _supports(method, backbone):
                yield Recipe(backbone, 64, method, within=True, precision="int8")
                break


def _supports(method: str, backbone: str) -> bool:
    try:
        find_method(method, backbone)
    except UnsupportedError:
        return False
    return True


def _best_dimensions(tried: Sequence[Tried], usual: int) -> int:
    scored = [one for one in tried if one.score is not None and one.recipe.backbone in CLOSED]
    return max(scored, key=lambda one: one.score or 0.0).recipe.dimensions if scored else usual


def _is_promising(tried: Sequence[Tried], short: Recipe) -> bool:
    scores = {one.recipe: one.score or 0.0 for one in tried}
    return short in scores and scores[short] >= PROMISING * max(scores.values())
