"""The order in which `edgerec fit` tries recipes, and its choice among their bundles."""

from __future__ import annotations

from dataclasses import replace

from edgerec.fitting import Exported, FitTrial, Recipe, Study, Variant
from edgerec.fitting.recipes import Tried, next_recipe, usual_dimensions
from edgerec.fitting.study import Repeat
from edgerec.fitting.trial import plain_and_fitted


def tried(*scores: tuple[Recipe, float | None]) -> list[Tried]:
    return [Tried(recipe, score) for recipe, score in scores]


def test_closed_forms_come_first_and_dimensions_follow_the_score() -> None:
    first = Recipe("svd", 32)
    assert usual_dimensions(4000, 65536) == 32
    assert next_recipe([], 4000, 65536, None) == first
    assert next_recipe([], 4000, 65536, True) == Recipe("ials", 32)  # svd has no users
    found = tried((first, 0.2), (Recipe("ials", 32), 0.1))
    coded = Recipe("lae", 64, "popularity", within=True, precision="int4")
    assert next_recipe(found, 4000, 65536, None) == coded
    found += tried((coded, 0.15))
    cut = Recipe("svd", 64, "popularity", within=True, precision="int4")
    assert next_recipe(found, 4000, 65536, None) == cut
    found += tried((cut, 0.18))
    assert next_recipe(found, 4000, 65536, None) == Recipe("svd", 64)
    found += tried((Recipe("svd", 64), 0.3))
    assert next_recipe(found, 4000, 65536, None) == Recipe("svd", 128)
    found += tried((Recipe("svd", 128), 0.25))
    assert next_recipe(found, 4000, 65536, None) == Recipe("svd", 16)


def test_a_short_training_that_disappoints_is_not_followed_by_a_whole_one() -> None:
    found: list[Tried] = []
    while (recipe := next_recipe(found, 4000, 65536, None)) is not None:
        found += tried((recipe, {"svd": 0.3, "ials": 0.3, "mf": 0.28, "lae": 0.2}.get(recipe.backbone, 0.1)))
    names = [one.recipe.name for one in found]
    assert "mf 32" in names
    assert "lightgcn 32" not in names
    assert any("bet" in name for name in names)
    assert names[-2:] == ["ngcf 32 16 epochs", "ncf 32 6 epochs"]
    assert len(names) == len(set(names))


def test_without_users_only_tables_of_items_are_trained_within_the_size() -> None:
    found: list[Tried] = []
    while (recipe := next_recipe(found, 4000, 65536, False)) is not None:
        found += tried((recipe, 0.3))
    assert {one.recipe.backbone for one in found if one.recipe.within} == {"svd", "lae"}


def test_trainings_within_the_size_that_are_the_best_are_tried_with_other_bits_and_dimensions() -> None:
    found = tried((Recipe("svd", 16), 0.2), (Recipe("ials", 16), 0.1))
    few = next_recipe(found, 4000, 40_000, False)
    assert few is not None
    assert (few.backbone, few.precision) == ("lae", "int2")
    assert next_recipe([*found, *tried((few, 0.3))], 4000, 40_000, False) == replace(few, precision="int4")
    found += tried((few, 0.1))
    cut = next_recipe(found, 4000, 40_000, False)
    assert cut == Recipe("svd", 64, "popularity", within=True, precision="int4")
    found += tried((cut, 0.3))
    assert next_recipe(found, 4000, 40_000, False) == replace(cut, precision="int8")
    found += tried((replace(cut, precision="int8"), 0.2))
    assert next_recipe(found, 4000, 40_000, False) == replace(cut, dimensions=128)


def test_solved_users_are_tried_in_two_bits_and_in_four_where_ials_is_ahead() -> None:
    found = tried((Recipe("svd", 128), 0.1), (Recipe("ials", 128), 0.2))
    coded = next_recipe(found, 40_000, 2_900_000, False)
    assert coded is not None
    assert coded.encoder is None
    found += tried((coded, 0.05))
    solved = Recipe("lae", 256, "popularity", within=True, precision="int2", encoder="least_squares")
    assert next_recipe(found, 40_000, 2_900_000, False) == solved
    assert solved.train_kwargs(2_900_000)["settings"] == {"encoder": "least_squares"}
    fewer = replace(solved, dimensions=128, precision="int4")
    assert next_recipe([*found, *tried((solved, 0.1))], 40_000, 2_900_000, False) == fewer
    for better, worse in ((solved, fewer), (fewer, solved)):
        both = [*found, *tried((better, 0.3), (worse, 0.25))]
        assert next_recipe(both, 40_000, 2_900_000, False) == replace(better, precision=worse.precision)
    small = tried((Recipe("svd", 32), 0.1), (Recipe("ials", 32), 0.2), (replace(coded, precision="int4"), 0.05))
    assert next_recipe(small, 4000, 65536, False) == replace(solved, dimensions=32)  # its matrix takes 4 KiB
    ahead = tried((Recipe("svd", 128), 0.3), (Recipe("ials", 128), 0.2), (coded, 0.05))
    assert next_recipe(ahead, 40_000, 2_900_000, False) == Recipe(
        "svd", 64, "popularity", within=True, precision="int4"
    )


def test_neighbours_are_tried_where_users_have_few_interactions() -> None:
    found = tried((Recipe("svd", 32), 0.2), (Recipe("ials", 32), 0.1))
    neighbours = Recipe("neighbours", 32)
    assert next_recipe(found, 4000, 65536, None, 9.0) == neighbours
    assert neighbours.train_options(65536) == ["--backbone", "neighbours", "--method", "dense", "--dimensions", "32"]
    assert plain_and_fitted(neighbours, 128_000, 65536) == ["int8"]
    for users, items, size, per_user in (
        (None, 4000, 65536, 50.0),
        (True, 4000, 65536, 9.0),
        (None, 4000, 20_000, 9.0),
        (None, 70_000, 1 << 20, 9.0),
    ):
        after = next_recipe(found, items, size, users, per_user)
        assert after is not None
        assert after.backbone != "neighbours"
    found += tried((neighbours, 0.3))
    while (recipe := next_recipe(found, 4000, 65536, None, 9.0)) is not None:
        found += tried((recipe, 0.3))
    assert [one.recipe for one in found if one.recipe.backbone == "neighbours"] == [neighbours]


def bundle(score: float, nbytes: int = 10, precision: str = "auto") -> Exported:
    return Exported(Variant(False, precision), None, nbytes, {"ndcg@20": score}, 1.0)


def test_the_best_of_several_splits_is_chosen() -> None:
    """The luck of the first split counts once, and a round of repeats that was interrupted counts as far as it went."""
    lucky, steady, rest = (FitTrial(Recipe("svd", d), [bundle(s)], 1.0) for d, s in ((8, 0.4), (16, 0.392), (32, 0.39)))
    poor = FitTrial(Recipe("svd", 64), [bundle(0.38)], 1.0)
    study = Study({}, "ndcg@20", [lucky, rest, steady, poor])

    def chosen() -> int:
        best = study.best(max_bytes=20, max_ms=None)
        assert best is not None
        return best.trial

    assert study.finalists(max_bytes=20, max_ms=None) == [0, 2, 1]
    assert chosen() == 0
    study.repeats.append(Repeat(0, 1, [bundle(0.3)], 1.0))
    assert chosen() == 0  # nothing to compare it with
    study.repeats.append(Repeat(2, 1, [bundle(0.39)], 1.0))
    assert chosen() == 2
    study.repeats.append(Repeat(1, 1, [bundle(0.9)], 1.0))
    assert chosen() == 1
    study.repeats.append(Repeat(0, 2, [], 1.0))  # it failed there
    study.repeats.append(Repeat(2, 2, [bundle(0.9)], 1.0))
    assert chosen() == 2
    study.reject(2, "too large")
    assert [one.trial for one in study.repeats] == [0, 1, 0]


def test_the_knee_is_the_smallest_of_about_the_best_score() -> None:
    bundles = [bundle(0.2, 10), bundle(0.397, 20), bundle(0.395, 25), bundle(0.4, 30)]
    best = Study({}, "ndcg@20", [FitTrial(Recipe("svd", 8), bundles, 1.0)]).best(max_bytes=None, max_ms=None)
    assert best is not None
    assert (best.bundle, best.limit) == (bundles[1], 20)
