"""LightGCN: vectors averaged over the layers of the user-item graph, trained by sampled softmax or by BPR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from edgerec.data import Interactions
from edgerec.extras import require
from edgerec.models.base import SizePlan
from edgerec.models.graph_trainer import TYPICAL_L2, GraphBackbone, GraphConfig, GraphTrainer
from edgerec.models.propagation import Propagation, normalised_adjacency

if TYPE_CHECKING:
    import torch
else:
    torch = require("torch", "train")


@dataclass(frozen=True)
class LightGCNConfig(GraphConfig):
    """Settings of LightGCN.

    Attributes:
        layers: number of products with the graph; 0 is matrix factorisation.
        loss: 'softmax', or 'bpr' as in the paper.
        mask_at: where rows are truncated to their sizes: 'output' truncates the propagated rows in training, so that
            the bundle holds the rows as trained; 'ego' truncates the rows before propagation, as CIESS and BET do, and
            the output afterwards. On ML-100K at 10 % by popularity that retains 99.7 % of the squared norm: NDCG@20
            .383, and .382 with 'output'.
        lr: Adam's first step size.
        horizon: epochs over which the step size falls linearly to a hundredth of `lr`, where it stays.
        users: users in a step of the softmax, each with all its interactions; fewer where an epoch would have
            under 8 steps, for `batch` as well.
        negatives: items drawn for a step of the softmax, shared by its users.
        popular: share of the negatives, 0 to 1, that the root of an item's popularity draws, with a correction;
            without effect if `negatives` are all items. On Gowalla's validation part 4,096 negatives with 0.5 gave
            an NDCG@20 of .1327 and a recall@20 of .2020 in 235 s of the processor (in 377 s .1339 and .2023), 2,048
            with 0 in 264 s .1317 and .2019. With 2,048 for both, at l2 0.01, NDCG@20 was .1242 and .1239.
        temperature: divisor of the scores in the softmax.
        batch: interactions in a step of BPR.
        l2: weight decay on the ego rows that a step touches, by interaction; None to choose it on validation. It
            decides more than any other setting, and its best value depends on the data: 0.005 of 0.002 to 0.05 on
            ML-100K's validation part, 0.02 on Last.fm's and on Gowalla's.
        start: 'svd' starts from the graph's leading singular vectors, 'normal' from noise as in the paper.
        std: root mean square of the initial values.
    """

    backbone: ClassVar[str] = "lightgcn"


class LightGCNTrainer(GraphTrainer):
    """Trains a table E of ego rows, users first; score(u, i) is the dot product of two rows of
    (E + A E + ... + A^L E) / (L + 1), A the normalised graph (He et al. 2020, arXiv 2002.02126, section 3.1).

    A step costs its 2 L sparse products, almost whatever it ranks, so steps are large: on Gowalla and two cores
    0.16 s with 2,048 interactions, 0.20 s with 65,536.
    """

    def __init__(
        self,
        train: Interactions,
        sizes: SizePlan,
        config: LightGCNConfig,
        seed: int,
        threads: int | None,
        device: str = "cpu",
        *,
        positives: Interactions | None = None,
    ) -> None:
        """Start a fit; with `positives`, batches have these interactions alone, and the graph all of `train`."""
        super().__init__(train, sizes, sizes, config, seed, threads, device)
        self._positives = train if positives is None else positives
        graph = normalised_adjacency(train)
        self._propagation = Propagation(graph, config.layers, threads, train.ranks, train.n_users, self._device)

    def _output(self, ego: torch.Tensor, *, training: bool) -> torch.Tensor:
        return self._propagation.differentiable(ego)


class LightGCN(GraphBackbone):
    """Light graph convolution (He, Deng, Wang, Li, Zhang and Wang 2020, arXiv 2002.02126)."""

    name: ClassVar[str] = "lightgcn"
    config: ClassVar[type[Any]] = LightGCNConfig
    trainer_class = LightGCNTrainer
    axes: ClassVar[Mapping[str, Sequence[float]]] = MappingProxyType({"l2": (0.005, 0.01, 0.02, 0.04, 0.08)})
    typical: ClassVar[Mapping[str, float]] = MappingProxyType({"l2": TYPICAL_L2})
