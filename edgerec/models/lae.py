"""Items trained as bundles without users store them, for a tied linear encoder, on torch, or for implicit ALS."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgerec.budget import BITS_PER_VALUE
from edgerec.data import Interactions
from edgerec.extras import require
from edgerec.models.adam import Adam
from edgerec.models.base import Backbone, SizePlan, State, Vectors, prefix_mask
from edgerec.models.coded_ials import CodedIALSTrainer, first_tables
from edgerec.models.encoder import Encoded, LinearEncoder
from edgerec.models.ials import EXPONENTS
from edgerec.models.low_rank import krylov, scaled_matrix
from edgerec.models.mf import Observed
from edgerec.models.on_device import sparse_tensor
from edgerec.models.quantizer import Quantizer, rotated
from edgerec.models.settings import check_choice, check_range, check_ranges
from edgerec.models.shared_rows import SharedRows, table_rows, within
from edgerec.models.torch_tools import device_of, torch_threads
from edgerec.tables.codes import in_bytes

if TYPE_CHECKING:
    import scipy.sparse
    import torch
    from torch.autograd import Function
    from torch.nn.functional import embedding, softplus
else:
    torch = require("torch", "train")
    Function = torch.autograd.Function
    embedding, softplus = torch.nn.functional.embedding, torch.nn.functional.softplus

BITS = ("2", "4", "8", "32")
ENCODERS = ("sum", "least_squares")
_AXES: Mapping[str, Mapping[str, Sequence[float]]] = MappingProxyType(
    {
        "sum": {"b": (0.2, 0.35), "spectrum": (0.0, 0.25)},
        "least_squares": {
            "alpha": (1.0, 3.0, 10.0, 30.0),
            "reg": (5.0, 10.0, 20.0, 30.0, 60.0, 100.0),
            **EXPONENTS,
        },
    }
)
_FINALISTS = {"sum": 3, "least_squares": 2}
_SAMPLE = 512
"""Users whose scores set the scale of the first history weights."""


@dataclass(frozen=True)
class LAEConfig:
    """Settings of items that are trained as they are stored.

    Attributes:
        encoder: 'sum', a user is a weighted sum of a history's items, trained by pairs of items; 'least_squares', a
            user is the solve of implicit ALS, and items are trained by it. None to choose it on validation, or 'sum'
            for a bundle of limited bytes, since the solve has d x d floats in it.
        bits: bits of a stored value that rows are rounded to in training: 2, 4, 8, or 32 for floats; None for those of
            the run's precision.
        lr: Adam's first step size for the item rows, which start with a root mean square of 1.
        horizon: epochs after which the step size has fallen to nothing, along a cosine.
        history: share of a history that makes the user's vector in training; the rest is predicted. None for 0.7, or
            0.5 with a spectrum above 0.
        users: users in a step.
        negatives: items drawn for a predicted item; the one with the highest score is the negative.
        a, b: exponents of the degrees of users and items in the SVD from which training starts; b is None for 0.35 or
            0.2, which is better where most items are rare.
        spectrum: exponent of the singular values in the first rows; above 0 leading dimensions count more. None for 0
            or 0.25, which is better for few users. What is None of b and spectrum is chosen on validation.
        alpha, reg, item_exponent, user_exponent: of 'least_squares', as those of `IALSConfig`; None to choose them on
            validation.

    lr, horizon, history, users, negatives, a, b and spectrum are those of 'sum'.
    """

    encoder: str | None = None
    bits: int | None = None
    lr: float = 0.05
    horizon: int = 16
    history: float | None = None
    users: int = 256
    negatives: int = 8
    a: float = 0.4
    b: float | None = None
    spectrum: float | None = None
    alpha: float | None = None
    reg: float | None = None
    item_exponent: float | None = None
    user_exponent: float | None = None

    def __post_init__(self) -> None:
        """Raise SettingError for values out of range."""
        if self.encoder is not None:
            check_choice("encoder", self.encoder, ENCODERS)
        if self.bits is not None:
            check_choice("bits", str(self.bits), BITS)
        check_range("lr", self.lr, 1e-9, 1e3)
        check_range("history", self.history, 0.01, 0.99)
        check_ranges(self, 1, 1e9, "horizon", "users", "negatives")
        check_ranges(self, -2, 2, "a", "b", "spectrum")
        check_range("alpha", self.alpha, 1e-6, 1e6)
        check_range("reg", self.reg, 1e-6, 1e9)
        check_ranges(self, 0, 2, "item_exponent", "user_exponent")


def _history(spectrum: float | None) -> float:
    """Return the documented default of `LAEConfig.history`."""
    return 0.5 if spectrum else 0.7


class LAETrainer:
    """Trains u = (sum over a history of h_i w_i) / length^power + c, score = u . w_j, on -ln sigmoid(score(u, j) -
    score(u, k)): j is in the part of the history that u is not computed from, k the hardest of a few items drawn.

    Each forward pass rounds rows and history weights exactly as bundles store them; gradients pass as if it did not
    (straight-through estimator: Bengio et al. 2013, arXiv 1308.3432). The rows start as those of a degree-normalised
    SVD, turned by a random rotation from each width to the next, so that their values are near normal and wider rows
    extend narrower ones; their basis is that of the bundle. ln h is a polynomial of degree 2 of the logarithm of an
    item's interactions.
    """

    def __init__(
        self, train: Interactions, sizes: SizePlan, config: LAEConfig, seed: int, threads: int | None, device: str
    ) -> None:
        """Start a fit from the SVD."""
        self._device = on = device_of(device)
        self._b = LAE.typical["b"] if config.b is None else config.b
        self._spectrum = config.spectrum or 0.0
        self._history = _history(self._spectrum) if config.history is None else config.history
        self._train, self._config, self._threads = train, config, threads
        self._generator = torch.Generator().manual_seed(seed)
        self._matrix = train.matrix()
        self._counts, self._shared, own = train.all_user_counts(), SharedRows(train), train.own_items
        all_sizes = np.full(train.n_items, sizes.d) if sizes.items is None else sizes.items
        self._quantizer = None
        if config.bits not in (None, 32):
            self._quantizer = Quantizer(all_sizes[own], sizes.d, config.bits, train.ranks)
        self._mask = torch.from_numpy(prefix_mask(all_sizes[own], sizes.d).astype(np.float32)).to(on)
        self._observed = Observed(train, on)
        counts = np.log(np.maximum(train.item_counts(), 1))
        spread = max(float(counts.std()), 1e-6)
        powers = ((counts - counts.mean()) / spread)[:, None] ** np.arange(3)
        self._popularity = torch.from_numpy(powers.astype(np.float32)).to(on)
        rows, scale = self._start(all_sizes, sizes.d, np.random.default_rng(seed), device)
        self._rows = torch.from_numpy(rows[own]).to(on).requires_grad_()
        first = [scale - 2 * self._b * counts.mean(), -2 * self._b * spread, 0]
        self._weights = torch.tensor(first, dtype=torch.float32).to(on).requires_grad_()
        self._power = torch.tensor(0.5).to(on).requires_grad_()
        self._bias = torch.zeros(sizes.d, device=on).requires_grad_()
        trained = {"rows": self._rows, "weights": self._weights, "power": self._power, "bias": self._bias}
        self._adam = Adam(trained, betas=(0.9, 0.99), fused=on.type != "cpu")
        self._epochs = 0

    def _start(
        self, sizes: NDArray[np.int64], d: int, rng: np.random.Generator, device: str
    ) -> tuple[NDArray[np.float32], float]:
        """Return the (n_items, d) first rows, and the logarithm of the factor that gives scores a deviation of 1."""
        train = self._train
        counts = np.maximum(train.item_counts(), 1).astype(np.float32)
        s, v = krylov(scaled_matrix(train, self._config.a, self._b), d, rng, train.ranks, device).right_vectors(d)
        mask = prefix_mask(sizes, d).astype(np.float32)
        shares = (s / max(float(s.max()), 1e-12)) ** self._spectrum
        rows = v * shares * (counts**self._b)[:, None] * mask
        rows = rotated(rows, sizes, rng)
        rows /= max(math.sqrt(float(np.square(rows).sum() / mask.sum())), 1e-12)
        first = max(_SAMPLE - train.own_users.start, 0)
        some = train.ranks.gather(self._matrix[:first] @ ((counts ** (-2 * self._b))[:, None] * rows))
        lengths = np.maximum(self._counts[:_SAMPLE], 1)
        deviation = float(((some / np.sqrt(lengths)[:, None]) @ rows.T).std())
        return rows.astype(np.float32), -math.log(max(deviation, 1e-12))

    def epoch(self) -> dict[str, float]:
        """Train on every user once, in a drawn order. `loss`: the mean ranking loss."""
        config = self._config
        total, pairs = 0.0, 0
        with torch_threads(self._threads):
            order = torch.randperm(self._train.all_users, generator=self._generator)
            for start in range(0, len(order), config.users):
                loss, count = self._step(order[start : start + config.users])
                total, pairs = total + loss * count, pairs + count
        self._epochs += 1
        return {"loss": total / max(pairs, 1)}

    def _step(self, users: torch.Tensor) -> tuple[float, int]:
        """Make one step on users (n,) of all ranks; return the mean loss and the number of predicted items."""
        part = self._part(users)
        if part is None:
            return 0.0, 0
        rows, weights = self._stored(part)
        vectors = _sum(weights[:, None] * rows, part.given)
        of_pairs = embedding(part.at, vectors / part.lengths[:, None] ** self._power + self._bias)
        scores = torch.stack([(of_pairs.detach() * rows.detach()[some]).sum(1) for some in part.drawn])
        hardest = self._observed.hardest(part.users, part.drawn, scores)
        margins = (of_pairs * (embedding(hardest, rows) - embedding(part.predicted, rows))).sum(1)
        loss = softplus(margins).sum() / part.n_predicted
        others = self._adam.tensors[1:]
        of_rows, *of_others = torch.autograd.grad(loss, [rows, *others])
        of_rows = self._shared.sum(of_rows, part.items, hardest) * self._mask
        joined = torch.cat([loss.detach()[None], *(gradient.flatten() for gradient in of_others)])
        loss, *of_others = (
            torch.from_numpy(self._train.ranks.sum(joined.cpu().numpy()))
            .to(self._device)
            .split_with_sizes([1, *(tensor.numel() for tensor in others)])
        )
        of_others = [gradient.view_as(tensor) for tensor, gradient in zip(others, of_others, strict=True)]
        falling = 0.5 * (1 + math.cos(math.pi * min(self._epochs / self._config.horizon, 1)))
        lr = self._config.lr * max(falling, 0.001)
        self._adam.step([of_rows, *of_others], [lr, *([0.2 * lr] * len(others))])
        return float(loss), part.n_predicted

    def _part(self, users: torch.Tensor) -> _Part | None:
        """Draw a step on users (n,) of all ranks; return the rank's part of it, None if no rank predicts an item."""
        config, counts = self._config, self._counts[users.numpy()]
        places = np.repeat(np.arange(len(users)), counts)
        given = (torch.rand(len(places), generator=self._generator) < self._history).numpy()
        lengths = np.bincount(places[given], minlength=len(users))
        predicted = ~given & (lengths > 0)[places]
        n = int(predicted.sum())
        if not n:
            return None
        drawn = torch.randint(self._train.n_items, (config.negatives, n), generator=self._generator)
        mine = within(users, self._train.own_users).numpy()
        of_mine, rows = mine[places], users.numpy()[mine] - self._train.own_users.start
        own, chosen = self._matrix[rows], predicted[of_mine]
        own.data *= given[of_mine]
        at, on = torch.from_numpy(np.repeat(np.arange(len(rows)), counts[mine])[chosen]), self._device
        return _Part(
            given=own,
            lengths=torch.from_numpy(np.maximum(lengths[mine], 1).astype(np.float32)).to(on),
            items=torch.from_numpy(own.indices.astype(np.int64)),
            at=at.to(on),
            predicted=torch.from_numpy(own.indices[chosen].astype(np.int64)).to(on),
            users=torch.from_numpy(rows)[at].to(on),
            drawn=drawn[:, torch.from_numpy(of_mine[predicted])].to(on),
            n_predicted=n,
        )

    def _stored(self, part: _Part) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the rows (n_items, d), a leaf, and history weights (n_items,) as bundles store them."""
        weights = (self._popularity @ self._weights).exp()
        rows = self._rows
        if self._quantizer is not None:
            rows, weights = self._quantizer.rounded(rows), self._quantizer.weights(weights)
        return self._shared.fetch(rows, part.items, part.drawn), weights

    def vectors(self) -> Vectors:
        rows, codes = self._rows.detach().cpu().numpy().copy(), None
        weights = (self._popularity @ self._weights.detach()).exp().cpu().numpy()
        if self._quantizer is None:
            rows = self._train.ranks.gather(rows)
        else:
            rows, codes = self._quantizer.joined(*self._quantizer.codes(rows))
            weights = in_bytes(weights)
        encoder = LinearEncoder(weights, float(self._power.detach()), bias=self._bias.detach().cpu().numpy().copy())
        none = np.zeros((0, rows.shape[1]), np.float32)
        return Vectors(none, rows, encoder, codes).with_history(self._train)

    def state(self) -> State:
        """Return what is trained, Adam's moments and step counts, the generator and the epoch count."""
        state: State = {"generator": self._generator.get_state().numpy(), "epochs": np.array(self._epochs)}
        return state | self._adam.state()

    def restore(self, state: State) -> None:
        self._generator.set_state(torch.from_numpy(state["generator"].copy()))
        self._epochs = int(state["epochs"])
        self._adam.restore(table_rows(state, {"rows": self._train.own_items}))


@dataclass(frozen=True)
class _Part:
    """A rank's part of a step: its users, their histories, and pairs of a user and a predicted item.

    Attributes:
        given: (k, n_items) the part of each user's history from which its vector is computed.
        lengths: (k,) its number of interactions, at least 1.
        items: all items of the histories.
        at: (n,) user of each pair, from 0 to k - 1.
        predicted: (n,) its item.
        users: (n,) its user, as a row of the rank.
        drawn: (negatives, n) the items drawn for it.
        n_predicted: number of pairs of all ranks.
    """

    given: scipy.sparse.csr_array[Any, Any]
    lengths: torch.Tensor
    items: torch.Tensor
    at: torch.Tensor
    predicted: torch.Tensor
    users: torch.Tensor
    drawn: torch.Tensor
    n_predicted: int


def _sum(rows: torch.Tensor, matrix: scipy.sparse.csr_array[Any, Any]) -> torch.Tensor:
    """Return a sparse matrix (n, m) times rows (m, d), on their device."""
    if rows.device.type != "cpu":
        return sparse_tensor(matrix, rows.device) @ rows
    product: torch.Tensor = _Sum.apply(rows, matrix)  # type: ignore[no-untyped-call]
    return product


class _Sum(Function):
    """A sparse matrix (n, m) times rows (m, d), by scipy."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, matrix: scipy.sparse.csr_array[Any, Any]) -> torch.Tensor:
        ctx.matrix = matrix
        return torch.from_numpy(np.asarray(matrix @ rows.numpy()))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return torch.from_numpy(np.asarray(ctx.matrix.T @ gradients[0].numpy())), None


def _trainer(
    train: Interactions, sizes: SizePlan, config: LAEConfig, seed: int, threads: int | None, device: str
) -> LAETrainer | CodedIALSTrainer:
    """Return the trainer of the encoder of closed settings."""
    if config.encoder == "sum":
        return LAETrainer(train, sizes, config, seed, threads, device)
    solve = {name: getattr(config, name) for name in ("alpha", "reg", *EXPONENTS)}
    bits = LAE().code_bits(config)
    return CodedIALSTrainer(train, sizes, bits, seed=seed, threads=threads, **solve, device=device)


class LAE(Backbone):
    """A linear autoencoder with tied weights of low rank, for bundles without users: W is encoder and decoder at once.

    ELSA (Vancura et al. 2022) ties the item-item weights of EASE (Steck 2019, arXiv 1905.03375) to A A' - I, on full
    rows of floats. Here as there a user is the sum of the rows of a history; ours weights items by popularity, ranks by
    pairs, and trains rows of few bytes: their sizes follow popularity, and their values are rounded in training as in
    the bundle, so that the bundle answers as the trained model does.

    Implicit ALS is another way to compute a user (`CodedIALSTrainer`).
    """

    name: ClassVar[str] = "lae"
    config: ClassVar[type[Any]] = LAEConfig
    trainer_class = staticmethod(_trainer)
    user_table: ClassVar[bool] = False
    size_exponent: ClassVar[float] = 1.0
    starts_trained: ClassVar[bool] = True
    max_epochs: ClassVar[int] = 16
    patience: ClassVar[int] = 6
    typical: ClassVar[Mapping[str, float]] = MappingProxyType(
        {"b": 0.35, "spectrum": 0.0, "alpha": 3.0, "reg": 30.0, "item_exponent": 0.5, "user_exponent": 0.0}
    )

    def variants(self, config: LAEConfig) -> list[tuple[LAEConfig, int]]:
        """Return the settings of each encoder that is open."""
        kinds = ENCODERS if config.encoder is None else (config.encoder,)
        return [(replace(config, encoder=kind), _FINALISTS[kind]) for kind in kinds]

    def open_axes(self, config: LAEConfig) -> dict[str, Sequence[float]]:
        axes = _AXES[config.encoder or "sum"]
        return {name: values for name, values in axes.items() if getattr(config, name) is None}

    def shared_start(self, train: Interactions, d: int, config: LAEConfig, seed: int, device: str = "cpu") -> State:
        """Return the first tables of 'least_squares'."""
        return first_tables(train, d, seed, device)

    def for_precision(self, config: LAEConfig, precision: str, *, whole_bundle: bool = False) -> LAEConfig:
        """Return the settings with the bits of the precision, or 32 for floats, unless they have others.

        In a bundle of limited bytes an open encoder is 'sum'.
        """
        encoder = "sum" if config.encoder is None and whole_bundle else config.encoder
        bits = BITS_PER_VALUE[precision]
        return replace(config, encoder=encoder, bits=config.bits or (bits if bits < 16 else 32))

    def closed(self, config: LAEConfig) -> LAEConfig:
        """Return the same settings with the typical value of each that is open; without bits, floats."""
        open_: dict[str, Any] = {name: value for name, value in self.typical.items() if getattr(config, name) is None}
        one = self.for_precision(replace(config, encoder=config.encoder or "sum", **open_), "fp32")
        return one if one.history is not None else replace(one, history=_history(one.spectrum))

    def code_bits(self, config: LAEConfig) -> int | None:
        """Return the bits of the settings; None for floats."""
        return None if config.bits in (None, 32) else config.bits

    def extra_parameters(self, d: int, config: LAEConfig) -> int:
        """Return the values of the matrix of 'least_squares'."""
        return d * d if config.encoder == "least_squares" else 0

    def encode(
        self, vectors: Vectors, train: Interactions, config: LAEConfig, *, threads: int | None = None
    ) -> Encoded | None:
        """Return the trained encoder."""
        return None if vectors.encoder is None else Encoded.exactly(vectors.encoder, train, vectors.items, threads)
