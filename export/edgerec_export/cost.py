"""Estimates of the cost of a draft on a device: exact bytes, and milliseconds and memory from measurements."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from edgerec.errors import ExportError
from edgerec.files import read_bytes
from edgerec.json_records import parse_json, record
from edgerec_export.layouts import BYTES_AT_ONCE, VALUES_AT_ONCE, TablePlan
from edgerec_export.onnx import StoredScorer, rows_a_step
from edgerec_export.values import PER_BYTE, STORED

if TYPE_CHECKING:
    from edgerec_export.draft import Draft

FORMAT = "edgerec.calibration"
RUNTIME_BYTES = 2 << 20
"""Memory of onnxruntime for one open graph, above a bare session: 1.0 to 1.8 MiB measured on small bundles."""
DECODED_BYTES = {"csr": 64, "bitmask": 32}
"""Bytes for each dimension of a decoded row, all steps included; in other layouts at most 32 (4,096 rows of 512)."""
TERMS = ("fixed_us", "us_per_block", "ns_per_row", "ns_per_value")


class _File(TypedDict):
    """The fields of a calibration file."""

    format: str
    device: str
    terms: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Calibration:
    """Measured costs of `recommend` on a device, for one user at a time (docs/reference/layouts.md).

    Attributes:
        device: description of the device.
        terms: for each 'layout/precision', the coefficients of `TERMS`, in this order, which are multiplied by 1 and by
            the numbers of blocks, rows and values of the item table, and summed.
    """

    device: str
    terms: Mapping[str, tuple[float, ...]]

    @classmethod
    def read(cls, path: Path) -> Calibration:
        """Read a calibration file. Raises ExportError if it is not one, StorageError if it cannot be read."""
        try:
            return cls.parse(parse_json(read_bytes(path)))
        except (ValueError, KeyError) as error:
            raise ExportError(
                f"{path} is no calibration ({error}); measure one on the device, as docs/reference/layouts.md says"
            ) from error

    @classmethod
    def parse(cls, fields: Any) -> Calibration:
        """Read the fields of a calibration file. Raises ValueError or KeyError if they are invalid."""
        file = record(_File, fields)
        if file["format"] != FORMAT:
            raise ValueError(f"its format is {file['format']!r}")
        terms = {name: tuple(value[term] for term in TERMS) for name, value in file["terms"].items()}
        return cls(file["device"], terms)

    def ms(self, plan: TablePlan, active: float) -> float:
        """Return the expected milliseconds of one `recommend`; infinity if the layout or precision was not measured.

        Args:
            active: share of nonzero dimensions of a user; csc reads only the values of these dimensions.
        """
        total = 0.0
        for number, block in enumerate(plan.blocks):
            if (key := f"{plan.layout}/{block.precision}") not in self.terms:
                return float("inf")
            fixed, per_block, row, value = self.terms[key]
            values = block.n_values * (active if plan.layout == "csc" else 1.0)
            total += (fixed if number == 0 else 0) + per_block + (row * block.rows + value * values) / 1e3
        return total / 1e3


@cache
def default_calibration() -> Calibration:
    """Return the calibration of the machine on which this release was measured."""
    text = resources.files("edgerec_export").joinpath("calibration.json").read_text()
    return Calibration.parse(json.loads(text))


@dataclass(frozen=True)
class Estimate:
    """The expected cost of a draft.

    Attributes:
        nbytes: exact bytes of the bundle.
        ms: milliseconds of one `recommend`.
        peak_bytes: peak memory of one `recommend`, above a bare session.
    """

    nbytes: int
    ms: float
    peak_bytes: int


def estimate(draft: Draft, calibration: Calibration) -> Estimate:
    """Return the expected cost of a drafted bundle."""
    nbytes = draft.nbytes()
    return Estimate(
        nbytes,
        calibration.ms(draft.items, active_share(draft)),
        nbytes + working_bytes(draft.items, draft.scorer) + RUNTIME_BYTES,
    )


def active_share(draft: Draft) -> float:
    """Return the mean share of nonzero dimensions of a user."""
    if draft.users is None:
        return 1.0
    return min(1.0, draft.users.n_values / (draft.users.n_rows * draft.users.d))


def working_bytes(plan: TablePlan, scorer: StoredScorer | None = None) -> int:
    """Return the bytes of intermediate values of one `recommend`, for one user.

    All layouts hold the scores twice, as pieces and concatenated; integers with several scales hold them a third time,
    before scaling. Decoded values come on top.
    """
    scores = (12 if plan.is_integer and not plan.has_one_scale else 8) * plan.n_rows
    return scores + decoded_bytes(plan, scorer)


def decoded_bytes(plan: TablePlan, scorer: StoredScorer | None = None, batch: int = 1) -> int:
    """Return the bytes of values that one `recommend` decodes at a time.

    These are a part of ELL (columns as int32, values as float32 and the user's values at those columns), the rows of
    CSR and bitmask that are decoded together, a converted block of fp16 or int4, or the active blocks of CSC (at most
    all). A scorer needs some rows, and its widest layer before and after the ReLU for each of `batch` users.
    """
    largest = max(block.n_values for block in plan.blocks)
    together = rows_a_step(plan.n_rows, plan.d)
    if scorer is not None or plan.layout in ("csr", "bitmask"):
        hidden = 0 if scorer is None else 8 * batch * scorer.widest
        return together * (DECODED_BYTES.get(plan.layout, 32) * plan.d + hidden)
    if plan.layout == "ell":
        together = largest if plan.precision == "int4" else min(largest, VALUES_AT_ONCE)
        return (12 + np.dtype(STORED[plan.precision]).itemsize) * together
    if plan.layout == "csc":
        return 20 * largest
    if any(block.precision in PER_BYTE for block in plan.blocks):
        floats = max(min(max(BYTES_AT_ONCE, block.rows), block.stored) for block in plan.blocks)
        return 4 * floats + largest
    return 6 * largest if plan.precision == "fp16" else 0
