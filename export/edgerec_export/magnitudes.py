"""Ranges of values: scores within float32, and rows within the range of a precision.

Tables with values far from 1 are scaled by powers of two: the items t V and the users U / t have the scores of V and U,
exactly, except for values that leave the range of float32.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgerec.errors import RangeError
from edgerec.models.encoder import LeastSquaresEncoder, LinearEncoder
from edgerec.tables import SparseTable, Table
from edgerec_export.request import ExportRequest
from edgerec_export.source import NEAR, Source, times
from edgerec_export.thin import largest_of_rows
from edgerec_export.values import chunks, rows_at_once

if TYPE_CHECKING:
    from edgerec_export.pack import PackedTable

ROWS_AT_ONCE = 1 << 16
USUAL = {"fp16": (2.0**-10, 65_504.0)}
"""Range of the largest value of unscaled tables, by precision; `NEAR` for the others."""
WITHOUT_USERS = (2.0**-40, 2.0**40)
"""Range of the largest value of items and encoder arrays, if users cannot take the inverse factor."""
LARGEST_SCORE = 2.0**126
SMALLEST_SCORE = 2.0**-100
"""Lower limit of the largest score of a user: below it products of values are subnormal in float32, which some
processors flush to 0."""
SAFE_SQUARES = (2.0**-60, 2.0**60)
"""Range of absolute values whose squares, and sums of them, stay within float32."""
LARGEST_HALF = 65_520.0
"""Smallest value that rounds to infinity in float16."""
NORMAL_HALF = 2.0**-14
"""Below it float16 keeps fewer than 11 bits of a value."""
NO_HALF = 2.0**-25
"""Largest value that rounds to 0 in float16."""
FAR = 32
"""A row counts as lost if the step of its codes is more than this many times its largest value."""


def largest_values(table: Table) -> NDArray[np.float32]:
    """Return the (n_rows,) largest absolute value of each row."""
    if isinstance(table, SparseTable):
        return largest_of_rows(table)
    found = np.empty(table.n_rows, np.float32)
    for part in chunks(table.n_rows, ROWS_AT_ONCE):
        found[part] = np.abs(table.rows(np.arange(part.start, part.stop))).max(1)
    return found


def in_range(source: Source, request: ExportRequest) -> Source:
    """Return the source with tables scaled by powers of two, if their values are far from 1.

    Raises RangeError if scores exceed float32; the message names a row.
    """
    items = largest_values(source.items)
    if source.users is None or source.user_ids is None or not request.users:
        _check_without_users(source, items)
        return source
    users = largest_values(source.users)
    if source.scorer is not None:
        for side, ids, largest in (("item", source.item_ids, items), ("user", source.user_ids, users)):
            _check_between(side, ids, largest, WITHOUT_USERS)
        _check_scorer(source, items, users)
        return source
    a, b = float(items.max()), float(users.max())
    if not a or not b:
        return source
    if a * b * source.items.d > LARGEST_SCORE:
        item, user = source.item_ids[items.argmax()], source.user_ids[users.argmax()]
        raise RangeError(
            f"scores of user {user} (values up to {b:.3g}) and item {item} (values up to {a:.3g}) may exceed float32's "
            f"3.4e38; divide the tables so that their largest values multiply to at most {LARGEST_SCORE:.0e} / d"
        )
    small = np.flatnonzero((users > 0) & (users.astype(np.float64) * a < SMALLEST_SCORE))
    if small.size:
        user, most = source.user_ids[small[0]], float(users[small[0]])
        raise RangeError(
            f"the values of user {user} are at most {most:.3g} and those of the items {a:.3g}: scores below "
            f"{SMALLEST_SCORE:.0e} are not exact in float32; multiply a table, or make the row zeros"
        )
    return _rescaled(source, request, a, b)


def _rescaled(source: Source, request: ExportRequest, a: float, b: float) -> Source:
    """Return tables with the same scores, scaled by powers of two if needed.

    Args:
        a, b: largest absolute value of items and of users.
    """
    least, most = USUAL.get(request.precision, NEAR)
    usual = least <= a <= most
    power = -round(math.log2(a))
    if request.precision == "fp16":  # both must be halves
        usual, power = usual and least <= b <= most, round((math.log2(b) - math.log2(a)) / 2)
    if usual or power == 0 or source.users is None:
        return source
    if request.previous is not None:
        raise RangeError(
            f"item values up to {a:.3g} are brought near 1 at export, by which the scales of an older bundle do not "
            "fit; export without --like"
        )
    return replace(source, items=times(source.items, power), users=times(source.users, -power))


def _check_without_users(source: Source, items: NDArray[np.float32]) -> None:
    _check_between("item", source.item_ids, items, WITHOUT_USERS)
    if isinstance(source.encoder, LinearEncoder):
        least, most = WITHOUT_USERS
        for name, array in source.encoder.arrays().items():
            largest = float(np.abs(array).max(initial=0))
            if largest and not least <= largest <= most:
                raise RangeError(
                    f"the encoder's {name} are at most {largest:.3g}, and users would leave float32's range; bring "
                    f"them between {least:.0e} and {most:.0e}"
                )
    _check_encoded(source, items)


def _check_encoded(source: Source, items: NDArray[np.float32]) -> None:
    """Raise RangeError if scores of encoded users may exceed float32, or if all of them are below the exact range.

    Both follow from a bound over all histories.
    """
    encoder, largest = source.encoder, items.astype(np.float64)
    row, a = int(items.argmax()), float(items.max())
    if isinstance(encoder, LinearEncoder):
        products = np.abs(encoder.weights.astype(np.float64)) * largest
        row = int(products.argmax())
        sums = float(products.sum())
        user = float(products[row]) * max(1.0, float(items.size) ** (1 - encoder.power))
        if encoder.matrix is not None:
            user *= float(np.abs(encoder.matrix.astype(np.float64)).sum(0).max())
        if encoder.bias is not None:
            user += float(np.abs(encoder.bias).max())
    elif isinstance(encoder, LeastSquaresEncoder):
        # |(reg I + (1 + alpha) X'X)^-1 X'| is at most 1 / (2 sqrt((1 + alpha) reg)), and at most |X| / reg.
        sums = a * items.size
        user = math.sqrt((1 + encoder.alpha) * items.size / encoder.reg) / 2
        user = min(user, (1 + encoder.alpha) * sums * math.sqrt(source.items.d) / encoder.reg)
    else:
        return
    score = user * a * source.items.d
    if max(sums, user, score) > LARGEST_SCORE:
        raise RangeError(
            f"scores of histories with item {source.item_ids[row]} (values up to {items[row]:.3g}) may reach "
            f"{max(sums, user, score):.3g}, and float32 ends at 3.4e38; divide the items or the encoder's arrays"
        )
    if 0 < score < SMALLEST_SCORE:
        raise RangeError(
            f"scores are at most {score:.3g}, of item {source.item_ids[row]} (values up to {items[row]:.3g}), and "
            f"below {SMALLEST_SCORE:.0e} not exact in float32; multiply the items or the encoder's arrays"
        )


def _check_scorer(source: Source, items: NDArray[np.float32], users: NDArray[np.float32]) -> None:
    """Raise RangeError if the scores of a scorer, or its intermediate sums, may exceed float32."""
    if source.scorer is None or source.user_ids is None:
        return
    rows = (np.full((1, source.items.d), side.max(), np.float32) for side in (users, items))
    with np.errstate(over="ignore", invalid="ignore"):
        score = float(source.scorer.magnitudes().scores(*rows)[0, 0])
    if not score <= LARGEST_SCORE:
        item, user = source.item_ids[items.argmax()], source.user_ids[users.argmax()]
        raise RangeError(
            f"scores of user {user} (values up to {users.max():.3g}) and item {item} (values up to {items.max():.3g}) "
            "may exceed float32's 3.4e38; divide the tables or the scorer's weights"
        )


def _check_between(side: str, ids: NDArray[Any], largest: NDArray[np.float32], bounds: tuple[float, float]) -> None:
    row = int(largest.argmax())
    if largest[row] and not bounds[0] <= largest[row] <= bounds[1]:
        raise RangeError(
            f"the largest value of the {side} table is {largest[row]:.3g}, of {side} {ids[row]}; scores stay exact in "
            f"float32 between {bounds[0]:.0e} and {bounds[1]:.0e}: scale the table"
        )


def needs_care(source: Source, request: ExportRequest) -> bool:
    """Return True if squares of user values may leave the range of float32, so that score bounds must avoid squares."""
    if source.users is None or not request.users:
        encoder = source.encoder
        if source.takes_vectors or not isinstance(encoder, LinearEncoder):
            return True  # apps may pass any vector
        weights = np.abs(encoder.weights[encoder.weights != 0])
        return bool((weights < WITHOUT_USERS[0]).any())
    least, most = SAFE_SQUARES
    for part in chunks(source.users.n_rows, ROWS_AT_ONCE):
        values = np.abs(source.users.rows(np.arange(part.start, part.stop)))
        if values.max() > most or ((values > 0) & (values < least)).any():
            return True
    return False


def check_halves(side: str, ids: NDArray[Any], table: Table) -> None:
    """Raise RangeError for rows that float16 does not represent.

    These are rows with a value that rounds to infinity, tables whose values are all below the normal numbers, users
    that round to zero, and more than half of the items if they round to zero. A few such items, for example new ones of
    a stream, score 0 up to rounding.
    """
    largest = largest_values(table)
    row = int(largest.argmax())
    if largest[row] >= LARGEST_HALF:
        raise RangeError(
            f"{side} {ids[row]} has a value of {largest[row]:.6g}, and fp16 ends at 65504; export in fp32 or int8, or "
            "divide the table"
        )
    lost = np.flatnonzero((largest > 0) & (largest <= NO_HALF))
    if lost.size and (side == "user" or 2 * lost.size > (largest > 0).sum()):
        raise RangeError(
            f"the largest value of {side} {ids[lost[0]]} is {largest[lost[0]]:.3g}, which fp16 rounds to 0 "
            f"({_rows(lost.size)} in all); export in fp32 or int8, or multiply the table"
        )
    if 0 < largest[row] < NORMAL_HALF:
        raise RangeError(
            f"the largest value of the {side} table is {largest[row]:.3g}, of {side} {ids[row]}, and below "
            f"{NORMAL_HALF:.2g} fp16 keeps fewer than 11 bits of a value; export in fp32 or int8, or multiply the table"
        )


def check_codes(side: str, ids: NDArray[Any], table: Table, packed: PackedTable, *, few: bool) -> None:
    """Raise RangeError if the step of codes is far too large for any user, or for more than half of the items.

    Some unpopular items may be rounded to zero: their error is at most half a step, as in all rows. A user that is
    rounded to zero loses its ranking, and a catalogue of which most items are, that of all users.

    Args:
        few: accept up to half of the users too. Training leaves such rows, for example new users of a stream; in your
            own arrays they are an error of scale.
    """
    order = packed.plan.order
    largest = largest_values(table)[order]
    step = packed.row_scales(np.arange(order.size))
    lost = np.flatnonzero((largest > 0) & (largest < step / FAR))
    if (few or side == "item") and 2 * lost.size <= (largest > 0).sum():
        return
    if lost.size:
        top = ids[order[largest.argmax()]]
        raise RangeError(
            f"the largest value of {side} {ids[order[lost[0]]]} is {largest[lost[0]]:.3g}, which "
            f"{packed.plan.precision} in steps of {step[lost[0]]:.3g} rounds to 0 ({_rows(lost.size)} in all; "
            f"{side} {top} has {largest.max():.3g}); export with --scales row, or in fp32",
            side,
        )


def rounded_to_zero(given: Table, table: Table, packed: PackedTable) -> int:
    """Return the number of rows with values that the bundle stores as zeros.

    Args:
        given: the table before it was scaled by a power of two, in which float32 may lose its smallest rows.
        table: the table that was packed.
    """
    order = packed.plan.order
    largest = largest_values(table)[order]
    gone = 0 if given is table else int(((largest == 0) & (largest_values(given)[order] > 0)).sum())
    if packed.plan.precision == "fp16":
        return gone + int(((largest > 0) & (largest <= NO_HALF)).sum())
    if not packed.plan.is_integer:
        return gone
    # Error feedback may change a value by more than half a step.
    near = np.flatnonzero((largest > 0) & (largest < 2 * packed.row_scales(np.arange(order.size))))
    return gone + sum(
        int((~packed.values(near[part]).any(1)).sum())
        for part in chunks(near.size, rows_at_once(table.d, ROWS_AT_ONCE))
    )


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"
