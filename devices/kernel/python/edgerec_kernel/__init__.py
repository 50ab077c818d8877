"""The kernel of EdgeRec: bundles are read and ranked in C, without onnxruntime.

`edgerec.runtime.Recommender.load(path, backend="kernel")` uses it; apps call that. All items and users are bundle rows.
"""

from __future__ import annotations

import ctypes
import platform
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Kernel", "KernelError"]

Rows = NDArray[np.int32]
Floats = NDArray[np.float32]

_SUFFIX = {"Windows": ".dll", "Darwin": ".dylib"}.get(platform.system(), ".so")
_MEMORY = 1
_GROWTHS = 4
"""Calls of er_open, which asks for more memory in each."""


class KernelError(Exception):
    """An error of the kernel.

    Attributes:
        kind: 'memory', 'request' or 'bundle'.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.kind = "memory" if status < 32 else "request" if status < 64 else "bundle"


class _Bytes(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("size", ctypes.c_size_t))


class _Source(ctypes.Structure):
    _fields_ = (
        ("manifest", _Bytes),
        ("tables", _Bytes),
        ("files", ctypes.c_void_p),
        ("n_files", ctypes.c_size_t),
        ("verify", ctypes.c_int),
        ("trusted", ctypes.c_void_p),
        ("n_trusted", ctypes.c_size_t),
        ("min_rollback_index", ctypes.c_uint64),
    )


class _Request(ctypes.Structure):
    _fields_ = (
        ("history", ctypes.c_void_p),
        ("n_history", ctypes.c_size_t),
        ("vector", ctypes.c_void_p),
        ("user", ctypes.c_int32),
        ("exclude", ctypes.c_void_p),
        ("n_exclude", ctypes.c_size_t),
        ("allow", ctypes.c_void_p),
        ("n_allow", ctypes.c_size_t),
        ("rarity", ctypes.c_float),
    )


class _Facts(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_uint32) for name in ("major", "minor", "items", "users", "d")),
        *((name, ctypes.c_int) for name in ("item_ids", "user_ids", "takes_vectors")),
        *((name, ctypes.c_int) for name in ("has_similar", "has_popular", "has_titles")),
        ("n_attributes", ctypes.c_uint32),
        ("rollback_index", ctypes.c_uint64),
    )


def _library() -> ctypes.CDLL:
    found = ctypes.CDLL(str(Path(__file__).with_name(f"libedgerec_kernel{_SUFFIX}")))
    found.er_message.restype = ctypes.c_char_p
    found.er_work_size.restype = ctypes.c_size_t
    found.er_facts_of.restype = _Facts
    for name in ("er_work_size", "er_facts_of", "er_close"):
        getattr(found, name).argtypes = [ctypes.c_void_p]
    return found


class Kernel:
    """A bundle, opened by the kernel. It is thread-safe."""

    def __init__(self, manifest: bytes, tables: NDArray[np.uint8], d: int) -> None:
        """Open a bundle of which the caller has compared sizes and hashes.

        Args:
            manifest: content of manifest.json.
            tables: (bytes,) of the tables file, at a multiple of 8 in memory; it stays mapped as long as this lives.
            d: dimensions of a vector.

        Raises:
            KernelError: the kernel refuses the bundle.
            TypeError, ValueError: the tables are no bytes, or `d` is not the bundle's.
        """
        if _checked("tables", tables, np.uint8).ctypes.data % 8:
            raise ValueError("tables lie at a multiple of 8 in memory; copy them into an array of their own")
        self._c, self._tables, self._d = _library(), tables, d
        text = ctypes.create_string_buffer(manifest, len(manifest))
        source = _Source(_Bytes(ctypes.addressof(text), len(manifest)), _Bytes(tables.ctypes.data, tables.size))
        model, need, status = ctypes.c_void_p(), ctypes.c_size_t(), _MEMORY
        for _ in range(_GROWTHS):
            self._arena = np.zeros(need.value // 8 + 1, np.uint64)
            status = self._c.er_open(
                ctypes.byref(source),
                ctypes.c_void_p(self._arena.ctypes.data),
                ctypes.c_size_t(self._arena.nbytes),
                ctypes.byref(need),
                ctypes.byref(model),
            )
            if status != _MEMORY:
                break
        self._check(status)
        self._model = model
        facts = self._c.er_facts_of(model)
        if facts.d != d:
            raise ValueError(f"the bundle's vectors have {facts.d} dimensions, got d = {d}")
        self._n_items = int(facts.items)
        self._work_size = int(self._c.er_work_size(model))
        self._own = threading.local()

    def _check(self, status: int) -> None:
        if status:
            raise KernelError(status, self._c.er_message(status).decode())

    def _work(self) -> NDArray[np.uint64]:
        """Return the memory of this thread's requests."""
        if not hasattr(self._own, "work"):
            self._own.work = np.zeros(self._work_size // 8 + 1, np.uint64)
        work: NDArray[np.uint64] = self._own.work
        return work

    def recommend(
        self,
        k: int,
        *,
        user: int = -1,
        history: Rows | None = None,
        vector: Floats | None = None,
        exclude: Rows | None = None,
        allow: Rows | None = None,
    ) -> tuple[Rows, Floats]:
        """Return the best items (n,) and their scores (n,), best first; n is k, or fewer if fewer are left.

        Every method raises KernelError for requests that the kernel refuses, and TypeError or ValueError for arrays of
        another dtype or shape than those of its signature: rows are int32, vectors float32, both without gaps.
        """
        request = _request(self._d, user, history, vector, exclude, allow)
        return self._ranked(self._c.er_recommend, (), request, k)

    def similar(self, item: int, k: int) -> tuple[Rows, Floats]:
        """Return the most similar items (n,) to an item, and cosines (n,)."""
        return self._ranked(self._c.er_similar, (ctypes.c_int32(_number("item", item, 0)),), _Request(user=-1), k)

    def _ranked(self, function: Callable[..., int], first: tuple[Any, ...], request: _Request, k: int) -> Any:
        k = min(_number("k", k, 1), self._n_items + 1)  # one more than there are is refused with the kernel's words
        items, scores, found = np.empty(k, np.int32), np.empty(k, np.float32), ctypes.c_uint32()
        work = self._work()
        status = function(
            self._model,
            *first,
            ctypes.byref(request),
            ctypes.c_uint32(k),
            ctypes.c_void_p(items.ctypes.data),
            ctypes.c_void_p(scores.ctypes.data),
            ctypes.byref(found),
            ctypes.c_void_p(work.ctypes.data),
            ctypes.c_size_t(work.nbytes),
        )
        self._check(status)
        return items[: found.value], scores[: found.value]

    def score(self, rows: Rows, *, user: int = -1, history: Rows | None = None, vector: Floats | None = None) -> Floats:
        """Return the scores (n,) of item rows (n,)."""
        rows = _checked("rows", rows, np.int32)
        request, scores = _request(self._d, user, history, vector), np.empty(rows.size, np.float32)
        work = self._work()
        status = self._c.er_score(
            self._model,
            ctypes.byref(request),
            ctypes.c_void_p(rows.ctypes.data),
            ctypes.c_size_t(rows.size),
            ctypes.c_void_p(scores.ctypes.data),
            ctypes.c_void_p(work.ctypes.data),
            ctypes.c_size_t(work.nbytes),
        )
        self._check(status)
        return scores

    def encode(self, history: Rows) -> Floats:
        """Return the vector (d,) of a history."""
        request, vector, work = _request(self._d, -1, history), np.empty(self._d, np.float32), self._work()
        status = self._c.er_encode(
            self._model,
            ctypes.byref(request),
            ctypes.c_void_p(vector.ctypes.data),
            ctypes.c_void_p(work.ctypes.data),
            ctypes.c_size_t(work.nbytes),
        )
        self._check(status)
        return vector


def _request(
    d: int,
    user: int,
    history: Rows | None = None,
    vector: Floats | None = None,
    exclude: Rows | None = None,
    allow: Rows | None = None,
) -> _Request:
    """Return a request. Raises TypeError and ValueError for arrays that C would read otherwise than they are meant."""

    def place(name: str, array: NDArray[Any] | None) -> tuple[int | None, int]:
        # An empty array has an address too: none is another request than an empty one.
        return (None, 0) if array is None else (_checked(name, array, np.int32).ctypes.data, array.size)

    if vector is not None and _checked("vector", vector, np.float32).size != d:
        raise ValueError(f"vector has {vector.size} values, and the bundle's have {d}")
    of_vector = None if vector is None else vector.ctypes.data
    given = _Request(
        *place("history", history),
        of_vector,
        _number("user", user, -1),
        *place("exclude", exclude),
        *place("allow", allow),
    )
    given.arrays = (history, vector, exclude, allow)  # which live as long as the request
    return given


def _checked(name: str, array: NDArray[Any], dtype: type[np.generic]) -> NDArray[Any]:
    """Return a list of numbers that C can read. Raises TypeError and ValueError."""
    if not isinstance(array, np.ndarray) or array.dtype != dtype:
        found = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise TypeError(f"{name} is an array of {np.dtype(dtype)}, got {found}")
    if array.ndim != 1 or not array.flags.c_contiguous:
        raise ValueError(f"{name} has one dimension and no gaps, got shape {array.shape}; use np.ascontiguousarray")
    return array


def _number(name: str, number: int, least: int) -> int:
    """Return a number that fits into 32 bits with a sign. Raises ValueError: C would cut it."""
    if not least <= number < 1 << 31:
        raise ValueError(f"{name} is {least} to {(1 << 31) - 1}, got {number}")
    return number
