"""A training that goes on from a full-size model within smaller sizes: how BET judges an action (section 4.3)."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgerec.data import Interactions
from edgerec.models import Backbone, SizePlan, State, Trainer
from edgerec.models.prefix import cut

_SCHEDULE = ("generator", "epochs")
"""What is as in a training from scratch: draws follow the seed, and step sizes begin anew, as the authors' do."""


def warm_trainer(
    backbone: Backbone, train: Interactions, plan: SizePlan, config: Any, full: State, *, anew: bool, **options: Any
) -> Trainer:
    """A trainer within `plan` whose tables are those of `full`, cut to their sizes.

    Args:
        full: the state of the backbone's trainer of full rows, with the same `config`.
        anew: whether draws, step sizes and moments begin anew; else all is as in `full`.
        options: further arguments of `Backbone.trainer`.
    """
    names = {field.name for field in fields(config)}
    # Where the tables come from elsewhere, the singular vectors that they would start from are not worth their time.
    quick = replace(config, start="normal") if "start" in names else config
    trainer = backbone.trainer(train, plan, quick, **options)
    trainer.restore(warm_state(trainer.state() if anew else full, full, plan, train, config))
    return trainer


def warm_state(fresh: State, full: State, plan: SizePlan, train: Interactions, config: Any) -> State:
    """The state of a trainer that begins, with the tables and weights of the full-size model; no moments of Adam.

    Args:
        fresh: of a trainer within `plan` that has not trained.
    """
    kept = {name for name in fresh if name in _SCHEDULE}
    state = {name: fresh[name] if name in kept else full[name].copy() for name in fresh}
    if "gmf" in fresh:
        state |= _neumf(fresh, full, plan.d)
    for name, sizes in _masked(plan, train, config).items():
        if name in state:
            state[name] = cut(state[name], sizes)
    return state


def _masked(plan: SizePlan, train: Interactions, config: Any) -> dict[str, NDArray[np.int64] | None]:
    """Sizes by the name of a table that holds nothing past them."""
    masks: dict[str, NDArray[np.int64] | None] = {"users": plan.users, "items": plan.items}
    if getattr(config, "mask_at", "output") == "ego":
        # A row of NGCF is shared by the ego row and its layers; LightGCN's is the ego row.
        parts = config.layers + 1 if config.backbone == "ngcf" else 1
        pairs = ((plan.users, train.n_users), (plan.items, train.n_items))
        full = [np.full(n, plan.d) if sizes is None else sizes for sizes, n in pairs]
        masks["ego"] = -(-np.concatenate(full) // parts)
    return masks


def _neumf(fresh: State, full: State, d: int) -> State:
    """NeuMF's tables and weights where the products take fewer dimensions than in full rows.

    The first of the full model's products stay, as in the authors' code, and its perceptron's dimensions move up
    behind them. Dimensions that are then free begin at zero: they change no score until they are trained.
    """
    old, new = len(full["gmf"]), len(fresh["gmf"])
    products, rest = min(old, new), min(d - old, d - new)
    state = {name: full[name].copy() for name in ("biases0", "weights1")}
    state["gmf"] = fresh["gmf"].copy()
    state["gmf"][:products] = full["gmf"][:products]
    for name in ("users", "items"):
        state[name] = np.zeros_like(fresh[name])
        state[name][:, :products] = full[name][:, :products]
        state[name][:, new : new + rest] = full[name][:, old : old + rest]
    state["weights0"] = fresh["weights0"].copy()
    for side in range(2):
        state["weights0"][side * (d - new) :][:rest] = full["weights0"][side * (d - old) :][:rest]
    return state
