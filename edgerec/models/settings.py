"""Checks of the values of configs."""

from __future__ import annotations

from numbers import Real
from typing import Any

from edgerec.errors import SettingError


def check_range(name: str, value: float | None, low: float, high: float) -> None:
    """Raise SettingError unless `value` is None or a number in low..high."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, Real)):
        raise SettingError(f"the setting {name} must be a number in {low:g}..{high:g}, got {value!r}")
    if value is not None and not low <= value <= high:
        raise SettingError(f"the setting {name} must be in {low:g}..{high:g}, got {value:g}")


def check_ranges(config: Any, low: float, high: float, *names: str) -> None:
    """Raise SettingError unless each of these fields of a config is None or a number in low..high."""
    for name in names:
        check_range(name, getattr(config, name), low, high)


def check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    """Raise SettingError unless `value` is one of `known`."""
    if value not in known:
        raise SettingError(f"the setting {name} must be one of {', '.join(known)}, got {value!r}")
