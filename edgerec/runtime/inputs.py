"""Checks of requests before a graph runs: types, shapes, existing rows, finite numbers.

Graphs check nothing: a row outside a table reads another row, and a vector that is not finite changes the answers of
the whole batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgerec.errors import RequestError

ORDINARY = 32
"""Graphs square a vector's values in float32. The squares of values between 2^-32 and 2^32 neither overflow nor vanish,
for any number of dimensions; vectors whose largest value lies outside are scaled."""


def rows_of(
    values: ArrayLike, name: str, side: str, count: int, shape: tuple[int | str, ...], *, padded: bool
) -> NDArray[np.int64]:
    """Return the bundle rows that a request gives, as the graphs take them.

    Args:
        name: of the parameter, for messages.
        side: 'item' or 'user'.
        count: rows of that side.
        shape: the expected one; a letter stands for any length.
        padded: -1 is taken too.

    Raises RequestError for other types, other shapes, and rows outside the bundle.
    """
    try:
        rows = np.asarray(values)
    except ValueError as error:
        raise RequestError(f"{name} has lists of different lengths, expected {_written(shape)}: pad with -1") from error
    if rows.size and rows.dtype.kind not in "iu":
        raise RequestError(
            f"{name} must be whole numbers, got {rows.dtype}: give bundle rows, which user_rows and item_rows find"
        )
    _check_shape(name, rows, shape)
    if rows.size and not (int(rows.min()) >= -padded and int(rows.max()) < count):
        wrong = next(row for row in rows.ravel().tolist() if not -padded <= row < count)
        padding = ", or -1 for padding" if padded else "; leave out the -1 of padding" if wrong == -1 else ""
        raise RequestError(f"{side} row {wrong} of {name} is not in the bundle: rows are 0 to {count - 1}{padding}")
    return rows.astype(np.int64, copy=False)


def vectors_of(values: ArrayLike, d: int) -> NDArray[np.float32]:
    """Return users' vectors (B, d) float32. Raises RequestError for other types and shapes, and for values that are not
    finite."""
    expected = f"float32 of shape (B, {d})"
    try:
        vectors = np.asarray(values)
    except ValueError as error:
        raise RequestError(f"vector has lists of different lengths, expected {expected}") from error
    if vectors.dtype != np.float32:
        raise RequestError(f"vector is {vectors.dtype}, expected {expected}: convert it by .astype(np.float32)")
    _check_shape("vector", vectors, ("B", d))
    wrong = np.argwhere(~np.isfinite(vectors))
    if len(wrong):
        row, dimension = wrong[0].tolist()
        raise RequestError(f"vector[{row}, {dimension}] is {vectors[row, dimension]}, expected finite numbers")
    return vectors


def one_vector(vector: ArrayLike, d: int) -> NDArray[np.float32]:
    """Return the numbers of one vector (d,) as float32, finite or not. Raises RequestError for others."""
    try:
        found = np.asarray(vector)
    except ValueError:  # lists of different lengths
        found = np.empty(0, object)
    if found.shape != (d,) or found.dtype.kind not in "iuf":
        raise RequestError(f"vector is {found.dtype} of shape {found.shape}, expected numbers of shape ({d},)")
    with np.errstate(over="ignore"):  # to inf, which is refused
        return found.astype(np.float32)


def once(history: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return histories (B, H) with -1 for items that came before in theirs: solvers are built for distinct ones."""
    order = np.argsort(history, axis=1, kind="stable")
    ascending = np.take_along_axis(history, order, 1)
    again = np.zeros(history.shape, bool)
    np.put_along_axis(again, order[:, 1:], ascending[:, 1:] == ascending[:, :-1], 1)
    return np.where(again, -1, history)


def scaled(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int32] | None]:
    """Scale vectors (B, d) whose largest value is beyond 2^±32 to one below 1, by a power of two: exact, and without an
    effect on the order of their scores.

    Returns:
        the vectors (B, d), and the exponents (B, 1) by which `unscaled` multiplies their scores; None if no vector is
        scaled.
    """
    _, exponents = np.frexp(np.abs(vectors).max(1, initial=0, keepdims=True))
    far = np.abs(exponents) > ORDINARY
    if not far.any():
        return vectors, None
    exponents = np.where(far, exponents, 0).astype(np.int32)
    return np.ldexp(vectors, -exponents), exponents


def unscaled(scores: NDArray[np.float32], exponents: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return the scores (B, n) of vectors as they were before `scaled`; inf for those beyond float32."""
    with np.errstate(over="ignore", under="ignore"):
        return np.ldexp(scores, exponents)


def _check_shape(name: str, array: NDArray[Any], shape: tuple[int | str, ...]) -> None:
    fits = [isinstance(wanted, str) or wanted == got for got, wanted in zip(array.shape, shape, strict=False)]
    if array.ndim != len(shape) or not all(fits):
        raise RequestError(f"{name} has the shape {array.shape}, expected {_written(shape)}")


def _written(shape: tuple[int | str, ...]) -> str:
    """Return a shape as numpy writes it."""
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def whole(value: object, least: int, most: int | None = None) -> bool:
    """Return True if a value is an integer from `least` to `most`."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        return False
    return least <= int(value) and (most is None or int(value) <= most)


def shown(value: object) -> str:
    """Return a value as text: numpy scalars as Python ones, and very long integers, which repr refuses, in hex."""
    plain = value.item() if isinstance(value, np.generic) else value
    return hex(plain) if isinstance(plain, int) and plain.bit_length() > 128 else repr(plain)
