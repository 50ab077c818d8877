"""Backbones, models that score users and items, found by name and imported on use.

Importing this package needs numpy only; `backbone("mf")` needs torch.
"""

from __future__ import annotations

from importlib import import_module

from edgerec.errors import UnsupportedError
from edgerec.models.base import (
    Backbone,
    SharingTrainer,
    SizePlan,
    State,
    Trainer,
    Vectors,
    check_sizes,
    cut,
    join_states,
    prefix_mask,
    state_of_part,
    users_from_history,
)
from edgerec.models.low_rank import scaled_matrix
from edgerec.models.settings import check_choice, check_range, check_ranges
from edgerec.models.torch_tools import device_of, torch_threads

_HOME = {
    "ials": ("edgerec.models.ials", "IALS"),
    "lae": ("edgerec.models.lae", "LAE"),
    "lightgcn": ("edgerec.models.lightgcn", "LightGCN"),
    "mf": ("edgerec.models.mf", "MF"),
    "ncf": ("edgerec.models.ncf", "NCF"),
    "neighbours": ("edgerec.models.neighbours", "Neighbours"),
    "ngcf": ("edgerec.models.ngcf", "NGCF"),
    "svd": ("edgerec.models.svd", "SVD"),
}

BACKBONES: tuple[str, ...] = tuple(sorted(_HOME))
"""Names of all backbones."""

__all__ = [
    "BACKBONES",
    "Backbone",
    "SharingTrainer",
    "SizePlan",
    "State",
    "Trainer",
    "Vectors",
    "backbone",
    "check_choice",
    "check_range",
    "check_ranges",
    "check_sizes",
    "cut",
    "device_of",
    "join_states",
    "prefix_mask",
    "scaled_matrix",
    "state_of_part",
    "torch_threads",
    "users_from_history",
]


def backbone(name: str) -> Backbone:
    """Return the backbone of that name. Raises UnsupportedError, which lists the names, for an unknown one."""
    if name not in _HOME:
        raise UnsupportedError(f"there is no backbone {name!r}; choose one of {', '.join(BACKBONES)}")
    module, attribute = _HOME[name]
    found: Backbone = getattr(import_module(module), attribute)()
    return found
