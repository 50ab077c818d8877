"""Interactions: reading, finding, filtering, splitting and measuring against them."""

from edgerec.data.interactions import Interactions

__all__ = ["Interactions"]
