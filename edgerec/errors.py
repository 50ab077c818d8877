"""Every error that a user can cause, each with a message that says what happened, why, and what mends it."""

from __future__ import annotations

import re

LONGEST = 2000
"""Characters of a message: file names, ids and what bundles hold stand in messages, and may be of any length."""
_KEPT_END = 500
"""Of those at the end, where a message says what to do."""
HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
"""Characters that a terminal obeys, or shows as nothing: controls, what turns the direction of text, halves."""


def escaped(text: str) -> str:
    """Text with its hidden characters as '\\x1b' or '\\u202e'."""
    return HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def shown(text: str, most: int = LONGEST) -> str:
    """Text from anywhere as one line that is safe to print: its hidden characters escaped, the middle of more than
    `most` characters left out."""
    if len(text) > most:
        end = min(_KEPT_END, most // 4)
        text = f"{text[: most - end]} ... {text[len(text) - end :]}"
    return escaped(text)


class EdgeRecError(Exception):
    """Base of all of EdgeRec's errors. The command line prints its message as one line and exits with 2.

    The message is one line of at most a few thousand printable characters, whatever it names.
    """

    def __init__(self, message: object = "", *more: object) -> None:
        super().__init__(shown(str(message)), *more)


class MissingExtraError(EdgeRecError, ImportError):
    """A package that an optional extra would bring is not installed."""


class StorageError(EdgeRecError):
    """A file or folder could not be read or written: no space, no permission, not there."""


class OutputError(EdgeRecError):
    """An output is an input, lies inside one, or would replace a file that EdgeRec did not write."""


class InUseError(StorageError):
    """Another process is writing the folder or file. Messages name it."""


class DataError(EdgeRecError):
    """Interactions are malformed, empty or inconsistent. Messages name the file and the line where known."""


class DownloadError(DataError):
    """A named data set is neither cached nor to be had."""


class BudgetError(EdgeRecError):
    """A budget is malformed or cannot be met. Messages name the smallest budget that could be.

    Attributes:
        smallest: that budget in bytes, where there is one.
    """

    def __init__(self, message: str, smallest: int | None = None) -> None:
        super().__init__(message)
        self.smallest = smallest


class TableError(EdgeRecError):
    """An embedding table's parts do not fit together, or its file is damaged."""


class UnsupportedError(EdgeRecError):
    """A combination that does not exist: method and backbone, table kind and layout. Messages list what does."""


class SettingError(UnsupportedError):
    """A setting is unknown, of the wrong type or out of range. Messages list what there is."""


class RunError(EdgeRecError):
    """A run folder is missing, incomplete, damaged, or belongs to other data or another command."""


class WorkerError(EdgeRecError):
    """The workers of a search cannot be had, or one of them was lost."""


class ExportError(EdgeRecError):
    """A table cannot be exported as asked."""


class RangeError(ExportError):
    """Values of a table are too large or too small for float32 scores or for a precision. Messages name a row.

    Attributes:
        side: 'item' or 'user', where a scale for each row of that table may help; else None.
    """

    def __init__(self, message: str, side: str | None = None) -> None:
        super().__init__(message)
        self.side = side


class VerificationError(ExportError):
    """An exported bundle does not answer as its tables do. Messages give got, expected and tolerance."""


class BundleError(EdgeRecError):
    """A bundle is half-written, tampered with, or made by a newer major version. Messages name the file."""


class SignatureError(BundleError):
    """A bundle is not signed, not with a trusted key, or altered since. Messages name the file."""


class PatchError(EdgeRecError):
    """A patch is damaged, of a newer major version, or made for another bundle; nothing was changed."""


class SigningKeyError(EdgeRecError):
    """A key is no ed25519 key, or making one would replace another."""


class RequestError(EdgeRecError, ValueError):
    """A question that a bundle cannot answer: an unknown user or item, a k outside the catalogue."""


class BenchError(EdgeRecError):
    """A measurement could not be made, or results cannot be compared."""


class DoesNotFitError(BenchError):
    """What was measured took more memory than the device has, and was killed for it."""


def reason_of(error: BaseException) -> str:
    """An error's text; its type's name where it has none, as MemoryError() and KeyboardInterrupt() have not."""
    return str(error).strip() or type(error).__name__
