"""The model card of a bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgerec.errors import shown

if TYPE_CHECKING:
    from edgerec_export.draft.draft import Draft


def model_card(draft: Draft) -> bytes:
    """Return the file README-<hash>.md, with the facts of the bundle, its metrics, and how to use it."""
    about, request, precisions = draft.source.about, draft.request, "+".join(sorted(draft.precisions()))
    subject = "user=USER" if draft.users is not None else "history=[ITEM, ...]"
    facts = [
        ("data", about.get("data")),
        ("backbone", about.get("backbone")),
        ("method", about.get("method")),
        ("budget", about.get("budget")),
        ("items", draft.items.n_rows),
        ("users", draft.users.n_rows if draft.users else "none: a user's vector is made from a history"),
        ("ids", "none: items and users are known by their rows" if request.ids == "none" else None),
        ("dimensions", f"{draft.items.d}, {draft.items.n_values / draft.items.n_rows:.1f} an item on average"),
        ("layout, precision", f"{request.layout}, {precisions}"),
        ("table bytes", draft.tables.nbytes),
        *_metrics(about, "test", ""),
        *([] if draft.users is not None else _metrics(about, "encoder", ", users from histories")),
    ]
    measured = "before quantisation" if draft.trained_codes is None else "rounded as in this bundle"
    rows = "\n".join(
        f"| {name} | {shown(str(value)).replace('|', chr(92) + '|')} |" for name, value in facts if value is not None
    )
    return f"""# EdgeRec bundle

| | |
|---|---|
{rows}

Metrics are those of the trained tables, {measured}.

    pip install edgerec
    python -c "from edgerec import Recommender; print(Recommender.load('.').recommend({subject}, k=10))"
""".encode()


def _metrics(about: dict[str, Any], part: str, whose: str) -> list[tuple[str, str]]:
    found = about.get("metrics", {}).get(part, {})
    return [(f"{name} (test{whose})", f"{found[name]:.4f}") for name in ("ndcg@20", "recall@20") if name in found]
