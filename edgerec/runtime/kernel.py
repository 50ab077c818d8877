"""The kernel as a backend: it ranks and scores the rows that `Ranker` has checked, without onnxruntime."""

from __future__ import annotations

import importlib
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from edgerec.errors import BundleError, MissingExtraError, RequestError
from edgerec.runtime.ranking import Feed, Ranker, Subject

PACKAGE = "edgerec_kernel"


class KernelRanker(Ranker):
    """The ranking and scoring of one version of a bundle, by the kernel. Users of a batch are answered one by one."""

    def _open(self) -> None:
        """Open the bundle's tables. Raises MissingExtraError; BundleError for a bundle that the kernel refuses."""
        try:
            self._package = importlib.import_module(PACKAGE)
        except ModuleNotFoundError as error:
            if error.name != PACKAGE:
                raise
            raise MissingExtraError(
                "edgerec_kernel is not installed; backend='kernel' needs it: pip install edgerec-kernel"
            ) from None
        try:
            self._kernel = self._package.Kernel(self.bundle.document, self.bundle.tables, self.manifest.d)
        except self._package.KernelError as error:
            raise BundleError(f"the kernel cannot open {self.bundle.folder}: {error}") from None

    def _best(
        self, subject: Subject, excluded: NDArray[np.int64], allowed: NDArray[np.int64] | None, k: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        def ranked(one: int) -> Any:
            given = _given(subject.feed, one)
            if "history" in given and not given["history"].size:
                return np.empty(0, np.int32), np.empty(0, np.float32)  # answered by the popular items
            allow = None if allowed is None else _known(allowed[one])
            return self._call("recommend", subject, int(k), **given, exclude=_known(excluded[one]), allow=allow)

        items, scores = _padded([ranked(one) for one in range(len(excluded))], int(k))
        return items, self._unscaled("recommend", scores, items >= 0, subject)

    def _ranked(
        self, graph: str, feed: Feed, excluded: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        k = int(feed["k"])
        return _padded([self._call(graph, None, int(item), k) for item in feed["item"]], k)

    def _scores(self, subject: Subject, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        each = [
            self._call("score", subject, own.astype(np.int32), **_given(subject.feed, one))
            for one, own in enumerate(rows)
        ]
        return np.stack(each)

    def _encoded(self, history: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.stack([self._call("encode", None, _known(own)) for own in history])

    def _call(self, name: str, subject: Subject | None, *arguments: Any, **named: Any) -> Any:
        try:
            return getattr(self._kernel, name)(*arguments, **named)
        except self._package.KernelError as error:
            if subject is not None and subject.given and error.kind == "request":
                raise RequestError(str(error)) from None
            raise BundleError(f"the kernel cannot answer from {self.bundle.folder}: {error}") from None


def _given(feed: Feed, one: int) -> dict[str, Any]:
    """Return the user of one place of a batch, as the kernel takes it."""
    if "user" in feed:
        return {"user": int(feed["user"][one])}
    if "history" in feed:
        return {"history": _known(feed["history"][one])}
    return {"vector": np.ascontiguousarray(feed["vector"][one])}


def _known(rows: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return rows without padding."""
    return cast(NDArray[np.int32], rows[rows >= 0].astype(np.int32))


def _padded(answers: list[Any], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    items, scores = np.full((len(answers), k), -1, np.int64), np.full((len(answers), k), -np.inf, np.float32)
    for one, (found, values) in enumerate(answers):
        items[one, : len(found)], scores[one, : len(found)] = found, values
    return items, scores
