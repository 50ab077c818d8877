"""The sentence that a report opens with: computed from the results, and honest when a bundle is worse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgerec.tables import PrefixTable
from edgerec.training import Run
from edgerec_bench import Result, read_results
from edgerec_bench.reports.headline import (
    headline_of,
    quality_change,
    run_sentence,
    scale_sentence,
    times,
    to_recommend,
)
from edgerec_bench.reports.html import bytes_cell, in_bytes
from edgerec_bench.result import ScaleResult

RESULTS = Path(__file__).parents[2] / "bench" / "results"


def bundle(name: str, nbytes: int, quality: float | None, *, device: str = "a phone", **about: Any) -> Result:
    """A result of a bundle with that size and quality; everything else is alike in all of them."""
    base = read_results(RESULTS / "arm64-layouts.json")[0]
    assert isinstance(base, Result)
    metrics = {} if quality is None else {"metrics": {"test": {"ndcg@20": quality}}}
    facts = {"data": "films", "precision": "fp32", **metrics, **about}
    form = replace(base.bundle, name=name, nbytes=nbytes, layout="dense", precision="fp32", about=facts)
    return replace(base, bundle=form, device={**base.device, "cpu": device})


FULL = bundle("full.bundle", 740_000, 0.4)


def sentence(*others: Result) -> str:
    return headline_of([FULL, *others], [], {}).sentence


@pytest.mark.parametrize(
    ("nbytes", "quality", "expected"),
    [
        (100_000, 0.4, "7.4 times smaller than full.bundle, with the same quality within 0.1 %."),
        (100_000, 0.398, "7.4 times smaller than full.bundle, with the same quality within 0.5 %."),
        (100_000, 0.3979, "7.4 times smaller than full.bundle, with the same quality within 0.6 %."),
        (100_000, 0.403, "7.4 times smaller than full.bundle, with the same quality within 0.8 %."),
        (100_000, 0.36, "7.4 times smaller than full.bundle, and its quality is 10.0 % lower."),
        (100_000, 0.44, "7.4 times smaller than full.bundle, and its quality is 10.0 % higher."),
        (1_480_000, 0.4, "2.0 times larger than full.bundle, with the same quality within 0.1 %."),
        (741_000, 0.2, "as large as full.bundle, and its quality is 50.0 % lower."),
        (1_000, 0.1, "740 times smaller than full.bundle, and its quality is 75.0 % lower."),
        (100_000, None, "7.4 times smaller than full.bundle, and what that costs in quality is not measured here."),
    ],
)
def test_it_says_what_is_saved_and_what_it_costs(nbytes: int, quality: float | None, expected: str) -> None:
    assert sentence(bundle("small.bundle", nbytes, quality)) == f"small.bundle is {expected}"


def test_of_several_it_takes_the_smallest_with_the_same_quality() -> None:
    tiny, small, large = (
        bundle(name, nbytes, quality)
        for name, nbytes, quality in (("tiny", 20_000, 0.3), ("small", 90_000, 0.397), ("large", 300_000, 0.4))
    )
    assert to_recommend([FULL, large, tiny, small]) == 3
    assert to_recommend([FULL, tiny, large]) == 2
    assert to_recommend([FULL, tiny, bundle("worse", 300_000, 0.35)]) == 2, "none is the same: the best of the smaller"
    assert to_recommend([FULL, bundle("larger", 900_000, 0.5), bundle("largest", 990_000, 0.5)]) == 1


def test_tables_that_export_changed_have_no_quality() -> None:
    """Their metrics are those of the trained tables: the bundle's own were measured by nobody."""
    rounded = bundle("small.bundle", 100_000, 0.4)
    rounded = replace(rounded, bundle=replace(rounded.bundle, precision="int8"))
    shortened = bundle("small.bundle", 100_000, 0.4, method="dense", dimensions=64)
    items = shortened.bundle.items
    shortened = replace(shortened, bundle=replace(shortened.bundle, item_blocks=((8, items),)))
    for changed in (rounded, shortened):
        assert quality_change(FULL, changed) is None
        headline = headline_of([FULL, changed], [], {})
        assert headline.sentence.endswith("what that costs in quality is not measured here.")
        assert any(
            "edgerec evaluate full.bundle small.bundle --data DATA, where DATA is films" in note
            for note in headline.notes
        )
        assert "NDCG" not in "".join(tile.label for tile in headline.tiles)


def test_other_data_or_another_split_is_no_comparison() -> None:
    for other in ({"data": "songs"}, {"split": {"kind": "time"}}):
        headline = headline_of([FULL, bundle("small.bundle", 100_000, 0.5, **other)], [], {})
        assert "not measured here" in headline.sentence
        assert any("different data or splits" in note for note in headline.notes)


def test_times_of_unlike_devices_are_not_set_side_by_side() -> None:
    alike = headline_of([FULL, bundle("small.bundle", 100_000, 0.4)], [], {}).tiles
    unlike = headline_of([FULL, bundle("small.bundle", 100_000, 0.4, device="another")], [], {}).tiles
    assert [tile.reference.partition(":")[0] for tile in alike] == ["full.bundle"] * len(alike)
    assert [bool(tile.reference) for tile in unlike if "median" in tile.label] == [False]
    assert unlike[0].reference == "full.bundle: 722.7 KiB (740,000 bytes)"


def test_one_bundle_is_described() -> None:
    headline = headline_of([FULL], [], {})
    assert headline.sentence.startswith(f"full.bundle recommends from {FULL.bundle.items:,} items in 722.7 KiB")
    assert not any(tile.reference for tile in headline.tiles)


def test_a_comparison_at_scale_opens_with_its_fastest_bundle() -> None:
    (result,) = read_results(RESULTS / "scale-1m.json")
    assert isinstance(result, ScaleResult)
    rival, best = result.contenders[0], next(one for one in result.contenders if one.name == "EdgeRec mixed int8")
    said = scale_sentence(result)
    assert said.startswith(f"At 1,000,000 items, {best.name} is {rival.nbytes / best.nbytes:.1f} times smaller than")
    assert said.endswith(f"{result.faster(best):.1f} times faster.")
    slow = replace(result, contenders=(best, replace(rival, kind="bundle")))
    assert scale_sentence(slow).endswith("times slower.")
    assert "times larger than EdgeRec mixed int8" in scale_sentence(slow)


def test_a_run_says_how_much_of_its_tables_is_left() -> None:
    items = PrefixTable.from_dense(np.ones((10, 8), np.float32), np.full(10, 2))
    config: Any = {"data": "films"}
    run = Run(items, None, None, np.arange(0), np.arange(10), None, config, {"test": {"ndcg@20": 0.25}}, "")
    assert run_sentence("runs/films", run) == (
        "runs/films keeps 25.0 % of the values of its full tables (20 of 80), with a test NDCG@20 of 0.2500."
    )


def test_ratios_and_bytes_are_exact() -> None:
    assert [times(ratio, "faster", "slower") for ratio in (1.02, 2, 0.25, 250)] == [
        "as fast", "2.0 times faster", "4.0 times slower", "250 times faster"
    ]  # fmt: skip
    assert (in_bytes(312), in_bytes(86_123)) == ("312 B", "84.1 KiB (86,123 bytes)")
    assert bytes_cell(86_123).exact == "86,123 bytes"
    assert bytes_cell(1023).exact == ""
