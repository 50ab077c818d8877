"""The smallest bundle of given data, known before any training."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgerec.data import Interactions, SplitSpec
from edgerec.errors import BudgetError
from edgerec.fitting.trial import Limits
from edgerec.measure import KS
from edgerec.models.encoder import Encoder, LeastSquaresEncoder, LinearEncoder
from edgerec.request import TrainRequest
from edgerec_export import Source, export, from_arrays

DIMENSIONS = 64
A_METRIC = 0.12345678901234567
"""A metric with as many digits as one can have."""
MARGIN = 512
"""Bytes by which the record of a training may differ from that of an untrained bundle: settings and numbers."""


@dataclass(frozen=True)
class Smallest:
    """Sizes of the smallest bundle of data, in bytes.

    Attributes:
        least: no bundle is smaller.
        sufficient: trained tables can certainly be fitted to it; they may need a scale for each row.
    """

    least: int
    sufficient: int


def smallest_bundle(
    interactions: Interactions, out: Path, split: SplitSpec, limits: Limits, *, users: bool
) -> Smallest:
    """Return the sizes of a bundle of rows with one value.

    Random tables are drafted, with all that a trained bundle records about its training; nothing is written.

    Args:
        out: the bundle's folder, or its one file.
        limits: what the bundle contains; its size and users are not looked at.
        users: True with a user table; False with an encoder of histories, the smaller of two.
    """
    weights = np.ones(interactions.n_items, np.float32)
    encoders: list[Encoder | None] = [None] if users else [LeastSquaresEncoder(1.0, 1.0), LinearEncoder(weights)]
    found: dict[str, list[int]] = {"table": [], "row": []}
    for encoder in encoders:
        source = replace(_untrained(interactions, split, encoder), attributes=limits.attributes)
        for scales, sizes in found.items():
            try:
                contents: dict[str, Any] = {"ids": limits.ids, "titles": limits.titles}
                export(source, out, precision="int8", scales=scales, max_bytes=1, fit=True, **contents)
            except BudgetError as refusal:
                sizes.append(refusal.smallest or 0)
    return Smallest(min(found["table"]) - MARGIN, min(found["row"]) + MARGIN)


def _untrained(interactions: Interactions, split: SplitSpec, encoder: Encoder | None) -> Source:
    rng, users = np.random.default_rng(0), encoder is None
    source = from_arrays(
        rng.standard_normal((interactions.n_items, DIMENSIONS), np.float32),
        rng.standard_normal((interactions.n_users, DIMENSIONS), np.float32) if users else None,
        item_ids=interactions.item_ids,
        user_ids=interactions.user_ids if users else None,
        encoder=encoder,
        item_counts=interactions.item_counts(),
        about=_about(interactions, "svd" if isinstance(encoder, LinearEncoder) else "ials", split),
    )
    return replace(source, titles=interactions.titles)


def _about(interactions: Interactions, backbone: str, split: SplitSpec) -> dict[str, Any]:
    """Return a record of a training."""
    request = TrainRequest.make(backbone, dimensions=DIMENSIONS, split=split)
    names = [f"{name}@{k}" for name in ("recall", "ndcg", "coverage", "popularity") for k in KS]
    metrics = dict.fromkeys(names, A_METRIC)
    return {
        "data": interactions.name,
        **request.to_dict(),
        "chosen_settings": dict.fromkeys(asdict(request.config), A_METRIC),
        "chosen_method_settings": asdict(request.method_config),
        "epochs": 100,
        "metrics": dict.fromkeys(("test", "validation", "encoder"), metrics),
        "data_fingerprint": interactions.fingerprint(),
    }
