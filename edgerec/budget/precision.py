"""Bits of a stored value, by precision."""

from __future__ import annotations

BITS_PER_VALUE = {"fp32": 32, "fp16": 16, "int8": 8, "int4": 4, "int2": 2}
