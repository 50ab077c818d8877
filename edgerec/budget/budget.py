"""Size limits of a recommender, in four spellings."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

from edgerec.errors import BudgetError

BITS_PER_VALUE = {"fp32": 32, "fp16": 16, "int8": 8, "int4": 4, "int2": 2}
"""Bits of a stored value, by precision."""

BudgetKind = Literal["share", "bytes", "bytes_per_row", "parameters"]

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
"""Bytes of each unit; texts may have them in any case."""
_SPELLED = {unit.lower(): unit for unit in _UNITS}
_SPELLINGS = "'10%' of the dense fp32 table, '512KiB' of bundle, '8B/row', or a parameter count such as '250000'"

_LARGEST_NUMBER = 1e18
"""Upper limit of a size or budget in any unit: that many GiB are still a finite number of bytes in float64."""


POINTER_BYTES = 4
"""Bytes of a row pointer of CSR, for up to 2^32 values."""


@dataclass(frozen=True)
class Positions:
    """Bytes that an encoding of a table needs in addition to its values; the papers' parameter counts leave them out.

    Attributes:
        per_value: bytes for each stored value.
        fixed: bytes whatever is stored.
    """

    per_value: float = 0
    fixed: int = 0


PREFIX = Positions()
"""Positions of prefix tables: none, since a bundle sorts the rows by their size."""


def sparse_positions(rows: Sequence[int], d: int) -> tuple[Positions, ...]:
    """Return the encodings of tables of `rows` rows each with values anywhere in `d` columns: CSR and a bit mask.

    A column number takes the narrowest of 1, 2 and 4 bytes, a row one pointer, and a table one more at its end; the
    mask of a row fills whole bytes. With one byte a column and d = 64, CSR is smaller below 4 values a row.
    """
    column = next(width for width in (1, 2, 4) if d <= 1 << (8 * width))
    csr = Positions(column, sum(POINTER_BYTES * (n + 1) for n in rows))
    bitmask = Positions(0, sum(n * -(-d // 8) for n in rows))
    return csr, bitmask


@dataclass(frozen=True)
class Budget:
    """A limit in one of four spellings.

    Attributes:
        kind: 'share' of the dense fp32 table, 'bytes' of the whole bundle, 'bytes_per_row' of stored values and their
            positions, 'parameters' (as the papers count).
        amount: a fraction in (0, 1], bytes, bytes a row, or a count.
    """

    kind: BudgetKind
    amount: float

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read '10%', '512KiB', '8B/row' or '250000', units in any case.

        KiB, MiB and GiB are powers of 1024, KB, MB and GB powers of 1000. K, M and G alone are refused, since they may
        mean bytes or parameters; so is a fraction without a unit. Raises BudgetError, with what was probably meant.
        """
        match = re.fullmatch(r"(\d*\.?\d+)\s*(%|[kmg]i?b|b|b/row|[kmg])?", text.strip(), re.IGNORECASE | re.ASCII)
        if match is None:
            raise BudgetError(f"cannot read the budget {text!r}: give {_SPELLINGS}")
        number, unit = float(match[1]), (match[2] or "").lower()
        if number >= _LARGEST_NUMBER:
            raise BudgetError(f"the budget {text!r} is out of range: give {_SPELLINGS}")
        if unit in ("k", "m", "g"):
            size, count = f"{match[1]}{unit.upper()}iB", f"{number * 1000 ** ('kmg'.index(unit) + 1):.0f}"
            raise BudgetError(f"the budget {text!r} is bytes or parameters: did you mean '{size}' or '{count}'?")
        if not unit and "." in match[1]:
            meant = f"; did you mean {number * 100:.15g}%?" if 0 < number <= 1 else f": give {_SPELLINGS}"
            raise BudgetError(f"the budget {text!r} has no unit, and a parameter count is a whole number{meant}")
        if unit == "%":
            budget = cls("share", number / 100)
        elif unit == "b/row":
            budget = cls("bytes_per_row", number)
        elif not unit:
            budget = cls("parameters", number)
        else:
            budget = cls("bytes", math.floor(number * _UNITS[_SPELLED[unit]]))
        if number <= 0 or (unit == "%" and number > 100):
            raise BudgetError(f"the budget {text!r} is out of range: give {_SPELLINGS}")
        return budget

    def __str__(self) -> str:
        if self.kind == "share":
            return f"{self.amount * 100:.15g}%"
        if self.kind == "bytes_per_row":
            return f"{self.amount:.15g}B/row"
        if self.kind == "parameters":
            return f"{self.amount:.0f}"
        unit = next(u for u in ("GiB", "MiB", "KiB", "B") if self.amount % _UNITS[u] == 0 or u == "B")
        return f"{self.amount / _UNITS[unit]:.0f}{unit}"

    def values(
        self,
        n_rows: int,
        d: int,
        *,
        bytes_per_value: float = 4,
        overhead: int = 0,
        positions: Sequence[Positions] = (PREFIX,),
    ) -> int:
        """Return the number of values that `n_rows` rows of at most `d` dimensions may hold.

        Args:
            bytes_per_value: bytes of a value in the bundle: 4 for fp32, 1 for int8.
            overhead: bytes of the bundle that are not values; subtracted from a budget in bytes only, since the other
                spellings limit the table alone.
            positions: the available encodings of the values' positions; the cheapest is used. A share and a parameter
                count limit the values alone, as in the papers; bytes, of a bundle or a row, cover both.

        Raises:
            BudgetError: less than one value a row; the message names the smallest sufficient budget.
        """

        def bought(space: float) -> float:
            return max((space - p.fixed) / (bytes_per_value + p.per_value) for p in positions)

        exact = {
            "share": self.amount * n_rows * d,
            "bytes": bought(self.amount - overhead),
            "bytes_per_row": bought(self.amount * n_rows),
            "parameters": self.amount,
        }[self.kind]
        count = min(int(exact + 1e-6), n_rows * d)
        if count < n_rows:
            least = math.ceil(min(n_rows * (bytes_per_value + p.per_value) + p.fixed for p in positions))
            smallest = {
                "share": f"{math.ceil(1e6 / d) / 1e4:g}%",
                "bytes": f"{least + overhead}B",
                "bytes_per_row": f"{math.ceil(1e3 * least / n_rows) / 1e3:g}B/row",
                "parameters": str(n_rows),
            }[self.kind]
            # A small number without a unit is a mistyped percentage.
            few = self.kind == "parameters" and self.amount <= 100
            given = f"{self} parameters (did you mean {self}%?)" if few else str(self)
            raise BudgetError(
                f"a budget of {given} leaves {max(count, 0)} values for {n_rows} rows, and each row needs one; "
                f"the smallest budget is {smallest}"
            )
        return count


def parse_bytes(text: str) -> int:
    """Read a size such as '200KiB', '128M' or '4096' in bytes, units in any case. Raises BudgetError.

    KiB, MiB and GiB, or K, M and G, are powers of 1024; KB, MB and GB are powers of 1000.
    """
    match = re.fullmatch(r"(\d*\.?\d+)\s*([kmg]i?b|[kmgb])?", text.strip(), re.IGNORECASE | re.ASCII)
    if match is not None and not float(match[1]):
        raise BudgetError(f"a size must be above 0 bytes, got {text!r}; give a larger one, such as 64KiB")
    if match is None or not float(match[1]) < _LARGEST_NUMBER:
        raise BudgetError(
            f"cannot read the size {text!r}: give bytes, or a number with KiB, MiB or GiB (powers of 1024), or KB, MB "
            "or GB (of 1000)"
        )
    unit = (match[2] or "b").lower()
    return int(float(match[1]) * _UNITS[_SPELLED[f"{unit}ib" if unit in "kmg" else unit]])


def format_bytes(count: float) -> str:
    """Return a readable number of bytes: '312 B', '1.5 KiB', '38.1 MiB'."""
    for unit in ("B", "KiB", "MiB"):
        if abs(count) < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


FIXED_OVERHEAD = 8 << 10
BLOCK_OVERHEAD = 320
"""Upper bounds of the bytes of a default bundle's graphs, manifest, card and alignment: a fixed part, and a part for
each distinct size of a table (a block). The contract suite checks them."""

SPARSE_OVERHEAD = 2 << 10
"""As `FIXED_OVERHEAD`, what the graphs of rows with values in any columns take more."""

MOST_POPULAR = 256
"""Number of items that a bundle without users ranks for an empty history: two bytes each, or four above 65,536 items.
Nobody scrolls past them without selecting one, and at a million items a ranking of all would take 4 MB."""


def bundle_overhead(item_ids: NDArray[Any], user_ids: NDArray[Any] | None, precision: str = "fp32") -> int:
    """Return an upper bound of the bytes of a default bundle outside its table values and blocks.

    Args:
        item_ids: (n_items,) raw ids.
        user_ids: (n_users,) raw ids, or None for a bundle without users: each item then has a history weight, and the
            most popular are ranked.
        precision: of the values. A history weight has a byte with integers, and 4 with floats.
    """
    sides = [item_ids] if user_ids is None else [item_ids, user_ids]
    fixed = FIXED_OVERHEAD + sum(map(_id_bytes, sides))
    if user_ids is not None:
        return fixed
    weight = 4 if BITS_PER_VALUE[precision] >= 16 else 1
    return fixed + weight * item_ids.size + (2 if item_ids.size <= 1 << 16 else 4) * min(item_ids.size, MOST_POPULAR)


CODED_FIXED_OVERHEAD = {8: 10_500, 4: 11_500, 2: 12_500}
CODED_BLOCK_OVERHEAD = {8: 550, 4: 850, 2: 1350}
"""As `FIXED_OVERHEAD` and `BLOCK_OVERHEAD`, of a bundle of codes with a scale a row, by their bits."""


def coded_overhead(item_ids: NDArray[Any], d: int, bits: int) -> tuple[int, int]:
    """Return upper bounds of the bytes of a default bundle of codes outside its values: a fixed part, and of a block.

    A row has a scale and a history weight of a byte each, and the encoder a bias of `d` float32. Ids ascend inside a
    block, where whole numbers take at most a bit of their range each, and a count for each 256.
    """
    n, ids, ids_of_block = item_ids.size, _id_bytes(item_ids), 0
    if item_ids.dtype.kind in "iu" and (span := int(item_ids.max()) - int(item_ids.min())) < 2 * ids:
        ids, ids_of_block = 0, 16 + span // 7
    popular = (2 if n <= 1 << 16 else 4) * min(n, MOST_POPULAR)
    return CODED_FIXED_OVERHEAD[bits] + 2 * n + popular + 4 * d + ids, CODED_BLOCK_OVERHEAD[bits] + ids_of_block


def _id_bytes(ids: NDArray[Any]) -> int:
    if ids.dtype.kind in "UO":
        return sum(len(text.encode()) for text in ids.tolist()) + 4 * (ids.size + 1)
    largest = int(ids.max())
    return ids.size * next((width for width in (1, 2, 4) if largest < 1 << (8 * width)), 8)
