"""Requests of trainings: names, spellings and settings, checked before any data is loaded."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from edgerec.budget import BITS_PER_VALUE, Budget
from edgerec.data import SplitSpec
from edgerec.errors import RequestError, SettingError, UnsupportedError
from edgerec.methods import VARIANT, Method, Workers, default_backbone
from edgerec.methods import method as find_method
from edgerec.methods.search import searches
from edgerec.models import Backbone
from edgerec.models import backbone as find_backbone
from edgerec.ranks import Ranks
from edgerec.training import FitOptions

MOST_DIMENSIONS = 1 << 20
AUTO = "auto"
"""The precision with which a method chooses the bits of each row."""


@dataclass(frozen=True)
class TrainRequest:
    """A checked request of a training.

    Attributes:
        backbone, method, budget, dimensions, split, precision: those that `edgerec.train` takes, parsed.
        config, method_config: configs of the backbone and the method.
        options: seed, threads, device, epochs.
    """

    backbone: Backbone
    method: Method
    budget: Budget | None
    dimensions: int
    split: SplitSpec
    precision: str
    config: Any
    method_config: Any
    options: FitOptions

    @classmethod
    def make(
        cls,
        backbone: str | None = None,
        method: str | None = None,
        *,
        budget: Budget | str | None = None,
        dimensions: int = 64,
        split: SplitSpec | str = "random:80/20",
        precision: str = "fp32",
        settings: Mapping[str, Any] | None = None,
        method_settings: Mapping[str, Any] | None = None,
        seed: int = 0,
        threads: int | None = None,
        device: str = "cpu",
        max_epochs: int | None = None,
        patience: int | None = None,
        sample_users: int | None = None,
    ) -> TrainRequest:
        """Parse and check names, spellings and settings. Raises UnsupportedError, BudgetError, DataError."""
        named = "fp32" if precision == AUTO else precision
        check_numbers(named, dimensions, seed)
        method = method or ("dense" if budget is None else "popularity")
        backbone = backbone or default_backbone(method)
        model, technique = find_backbone(backbone), find_method(method, backbone)
        if precision == AUTO and not technique.codes_rows:
            raise UnsupportedError(
                "the precision auto is for --method bet or ciess with --backbone svd, which choose each row's bits; "
                "name another one here, and give 'edgerec export' --precision auto"
            )
        check_device(model, technique, device)
        limit = Budget.parse(budget) if isinstance(budget, str) else budget
        config = configured(model.config, settings, f"backbone {backbone}")
        return cls(
            model,
            technique,
            limit,
            dimensions,
            SplitSpec.parse(split, seed=seed) if isinstance(split, str) else split,
            precision,
            model.for_precision(config, named, whole_bundle=limit is not None and limit.kind == "bytes"),
            configured(technique.config, method_settings, f"method {method}", technique.variants),
            FitOptions(seed, threads, device, max_epochs, patience, sample_users),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything that decides the result, as JSON."""
        sample = self.options.sample_users
        return {
            "backbone": self.backbone.name,
            "method": self.method.name,
            "budget": None if self.budget is None else str(self.budget),
            "dimensions": self.dimensions,
            "split": self.split.to_dict(),
            "precision": self.precision,
            "seed": self.options.seed,
            "max_epochs": self.options.max_epochs,
            "patience": self.options.patience,
            "settings": asdict(self.config),
            "method_settings": asdict(self.method_config),
            **({} if sample is None else {"sample_users": sample}),
        }


def check_device(backbone: Backbone, method: Method, device: str) -> None:
    """Raise UnsupportedError for a device that torch does not find, or that one of both does not train on."""
    if device == "cpu":
        return
    if method.cpu_only:
        raise UnsupportedError(
            f"the method {method.name} trains sparse tables, on the CPU only: leave the device {device!r} out, or "
            "choose another method"
        )
    backbone.check_device(device)


def check_workers(request: TrainRequest, workers: Workers) -> None:
    """Raise UnsupportedError if workers are given for a method without a search."""
    if workers is not None and not searches(request.method):
        raise UnsupportedError(
            f"the method {request.method.name} on {request.backbone.name} makes no search of trainings, so it has no "
            "use for workers"
        )


RANKED = (("svd", "ials", "lae", "lightgcn", "mf"), ("dense", "uniform", "random", "popularity"))
"""Backbones and methods that train in several processes."""


def check_ranks(request: TrainRequest, ranks: Ranks) -> None:
    """Raise UnsupportedError if several processes are to train what trains in one only, or on another device."""
    for what, name, known in zip(
        ("backbone", "method"), (request.backbone.name, request.method.name), RANKED, strict=True
    ):
        if ranks.count > 1 and name not in known:
            raise UnsupportedError(f"the {what} {name} trains in one process; several train: {', '.join(known)}")
    if ranks.count > 1 and request.options.device != "cpu":
        raise UnsupportedError("several processes train on the CPU; leave --device out, or train in one process")


def check_numbers(precision: str, dimensions: int, seed: int) -> None:
    """Raise UnsupportedError or SettingError for a precision, dimensions or a seed that no training can have."""
    if precision not in BITS_PER_VALUE:
        raise UnsupportedError(f"there is no precision {precision!r}; there are: {', '.join(BITS_PER_VALUE)}")
    if not 1 <= dimensions <= MOST_DIMENSIONS:
        raise UnsupportedError(f"a table needs at least one dimension and at most {MOST_DIMENSIONS}, got {dimensions}")
    if not 0 <= seed < 1 << 63:
        raise SettingError(f"a seed is a whole number from 0 to 2^63 - 1, got {seed}")


def settings_of(pairs: Sequence[str]) -> dict[str, Any]:
    """Read 'name=value' pairs; values are numbers, true, false, none, or text. Raises RequestError."""
    settings = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise RequestError(f"cannot read the setting {pair!r}: give name=value")
        settings[name.strip().replace("-", "_")] = _value(text.strip())
    return settings


def settings_by_method(pairs: Sequence[str], methods: Collection[str]) -> dict[str, dict[str, Any]]:
    """Read 'method.name=value' pairs, of these methods. Raises RequestError."""
    settings: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        method, dot, rest = pair.partition(".")
        if not dot or method not in methods:
            raise RequestError(f"cannot read the setting {pair!r}: give METHOD.NAME=VALUE of {', '.join(methods)}")
        settings.setdefault(method, {}).update(settings_of([rest]))
    return settings


def _value(text: str) -> Any:
    words: Mapping[str, Any] = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def configured(
    config: type[Any], settings: Mapping[str, Any] | None, whose: str, variants: Mapping[str, Any] | None = None
) -> Any:
    """Return a config with the given settings; the others are those of the variant, or the defaults.

    Args:
        settings: values by name; 'variant' selects one of `variants`.
        whose: owner of the config, for messages.
        variants: whole configs by name, 'default' among them; None if there is no choice.

    Raises SettingError for a setting that the config does not have, or a value that it refuses.
    """
    known, given = {field.name: str(field.type) for field in fields(config)}, dict(settings or {})
    start = config()
    if variants and VARIANT in given:
        name = given.pop(VARIANT)
        if name not in variants:
            raise SettingError(f"the setting {VARIANT} must be one of {', '.join(variants)}, got {name!r}")
        start = variants[name]
    for name, value in given.items():
        if name not in known:
            names = sorted([*known, VARIANT] if variants else known)
            raise SettingError(f"the {whose} has no setting {name}; it has: {', '.join(names) or 'none'}")
        if not _fits(value, known[name]):
            raise SettingError(f"the setting {name} of the {whose} takes {known[name]}, got {value!r}")
    return replace(start, **given)


def _fits(value: Any, annotation: str) -> bool:
    """Return True for a value of one of the plain types that a config's annotation names."""
    kinds = annotation.split(" | ")
    if value is None or isinstance(value, bool):
        return ("None" if value is None else "bool") in kinds
    if isinstance(value, int):
        return "int" in kinds or "float" in kinds
    if isinstance(value, float):
        return "float" in kinds and math.isfinite(value)
    return isinstance(value, str) and ("str" in kinds or "Literal" in annotation)
