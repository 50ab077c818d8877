"""Test scores of a run under its bundle's conditions: vectors truncated after training, users built from histories."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgerec.training import Run
from edgerec.training.fit import SELECTION


def truncation(run: Run) -> dict[str, Any] | None:
    """Return what truncating the vectors after training (`--mask-at ego`) lost; None if nothing was truncated.

    'norm_share' is the share of the squared norm that is left; 'before' and 'after' are test scores. Runs of older
    versions do not have the score before.
    """
    norm_share = run.metrics.get("training", {}).get("kept")
    if norm_share is None:
        return None
    return {
        "norm_share": norm_share,
        "before": run.metrics.get("uncut", {}).get(SELECTION),
        "after": run.metrics.get("test", {}).get(SELECTION),
    }


def truncation_text(found: dict[str, Any]) -> str:
    """Return the result of `truncation` as a sentence."""
    before = "" if found["before"] is None else f" {found['before']:.4f} before,"
    lost = f"{1 - found['norm_share']:.2%} of the propagated tables' squared norm lost"
    return f"{lost}; test {SELECTION}{before} {found['after']:.4f} after"


def encoder_quality(run: Run) -> dict[str, Any] | None:
    """Return the test scores of users built from histories and of the user table; None for a run without an encoder.

    The table's score is None if the run has no user table.
    """
    test = run.metrics.get("test")
    if run.encoder is None or test is None:
        return None
    by_table = None if run.users is None else test[SELECTION]
    return {
        "encoder": run.encoder.kind,
        SELECTION: run.metrics.get("encoder", test)[SELECTION],
        f"{SELECTION} by the table": by_table,
    }


def better_without_users(metrics: Mapping[str, Mapping[str, float]], *, what: str) -> str | None:
    """Return the sentence about a training whose users are no worse from histories than by the table; else None.

    Args:
        metrics: those of a run, or of a bundle's record of its training.
        what: the subject of the sentence.
    """
    by_table, by_history = (metrics.get(part, {}).get(SELECTION) for part in ("test", "encoder"))
    if by_table is None or by_history is None or by_history < by_table:
        return None
    return (
        f"{what} serves no worse without its user table: in training, test {SELECTION} of users from their histories "
        f"was {by_history:.4f}, by the table {by_table:.4f}; export it with --no-users, which is smaller"
    )


def encoder_text(quality: dict[str, Any]) -> str:
    """Return the result of `encoder_quality` as a sentence."""
    by_table = quality[f"{SELECTION} by the table"]
    table = "" if by_table is None else f", of the user table's {by_table:.4f}"
    return f"by encoder {quality['encoder']}; test {SELECTION} of these users {quality[SELECTION]:.4f}{table}"
