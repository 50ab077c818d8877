"""How many bits a stored value takes, by precision."""

from __future__ import annotations

BITS_PER_VALUE = {"fp32": 32, "fp16": 16, "int8": 8, "int4": 4}
