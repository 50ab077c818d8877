"""How good users are that are made from histories, for bundles without users: numbers, and for people."""

from __future__ import annotations

from typing import Any

from edgerec.training import Run
from edgerec.training.fit import SELECTION


def made_of(run: Run) -> dict[str, Any] | None:
    """The encoder's kind, and the test scores of the users it makes and of the table's (None where there is none);
    None for a run that cannot ship without users."""
    if run.encoder is None:
        return None
    test = run.metrics["test"]
    by_table = None if run.users is None else test[SELECTION]
    return {
        "encoder": run.encoder.kind,
        SELECTION: run.metrics.get("encoder", test)[SELECTION],
        f"{SELECTION} by the table": by_table,
    }


def made_text(made: dict[str, Any]) -> str:
    """For people."""
    by_table = made[f"{SELECTION} by the table"]
    table = "" if by_table is None else f", of the user table's {by_table:.4f}"
    return f"by encoder {made['encoder']}; test {SELECTION} of these users {made[SELECTION]:.4f}{table}"
