"""Errors that a user can cause; each message says what happened, what was expected and what to do."""

from __future__ import annotations

import re

LONGEST = 2000
"""Maximum length of a message in characters: file names and ids in messages may be of any length."""
_END_CHARACTERS = 500
"""Characters at the end of a shortened message, where it says what to do."""
HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
"""Characters that a terminal interprets or hides: controls, marks of the text direction, unpaired surrogates."""


def escaped(text: str) -> str:
    """Return text with its hidden characters as '\\x1b' or '\\u202e'."""
    return HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def shown(text: str, most: int = LONGEST) -> str:
    """Return untrusted text as one line that is safe to print: hidden characters escaped, at most `most` characters.

    The middle of a longer text is replaced by dots.
    """
    if len(text) > most:
        end = min(_END_CHARACTERS, most // 4)
        text = f"{text[: most - end]} ... {text[len(text) - end :]}"
    return escaped(text)


class EdgeRecError(Exception):
    """Base class of EdgeRec's errors. The command line prints the message as one line and exits with status 2.

    The message is one line of at most a few thousand printable characters.
    """

    def __init__(self, message: object = "", *more: object) -> None:
        super().__init__(shown(str(message)), *more)


class MissingExtraError(EdgeRecError, ImportError):
    """A package of an optional extra is not installed."""


class StorageError(EdgeRecError):
    """A file or folder could not be read or written: no space, no permission, not there."""


class OutputError(EdgeRecError):
    """An output is an input, lies inside one, or would replace a file that EdgeRec did not write."""


class InUseError(StorageError):
    """Another process is writing the folder or file. Messages name it."""


class DataError(EdgeRecError):
    """Interactions are malformed, empty or inconsistent. Messages name the file and the line if known."""


class DownloadError(DataError):
    """A named data set is neither cached nor available from its sources."""


class BudgetError(EdgeRecError):
    """A budget is malformed or cannot be met. Messages name the smallest possible budget.

    Attributes:
        smallest: that budget in bytes; None if there is none.
    """

    def __init__(self, message: str, smallest: int | None = None) -> None:
        super().__init__(message)
        self.smallest = smallest


class TableError(EdgeRecError):
    """An embedding table's parts do not fit together, or its file is damaged."""


class UnsupportedError(EdgeRecError):
    """A combination, such as a method and a backbone, is not supported. Messages list the supported ones."""


class SettingError(UnsupportedError):
    """A setting is unknown, of the wrong type or out of range. Messages list the valid ones."""


class RunError(EdgeRecError):
    """A run folder is missing, incomplete, damaged, or belongs to other data or another command."""


class WorkerError(EdgeRecError):
    """The workers of a search are not available, or one of them was lost."""


class ExportError(EdgeRecError):
    """A table cannot be exported with the given options."""


class RangeError(ExportError):
    """Values of a table are too large or too small for float32 scores or for a precision. Messages name a row.

    Attributes:
        side: 'item' or 'user' if a scale for each row of that table may help; else None.
    """

    def __init__(self, message: str, side: str | None = None) -> None:
        super().__init__(message)
        self.side = side


class VerificationError(ExportError):
    """An exported bundle answers differently than its tables. Messages give got, expected and tolerance."""


class BundleError(EdgeRecError):
    """A bundle is incomplete, altered, or written by a newer major version. Messages name the file."""


class SignatureError(BundleError):
    """A bundle is unsigned, signed with an untrusted key, or altered since. Messages name the file."""


class PatchError(EdgeRecError):
    """A patch is damaged, of a newer major version, or for another bundle; nothing was changed."""


class SigningKeyError(EdgeRecError):
    """A key is no ed25519 key, or a new one would replace an existing one."""


class RequestError(EdgeRecError, ValueError):
    """A bundle cannot answer a request: an unknown user or item, a k outside the catalogue."""


class ServeError(EdgeRecError):
    """A server cannot start: settings that do not fit together, tokens that others read, an address in use."""


class BenchError(EdgeRecError):
    """A measurement failed, or results cannot be compared."""


class DoesNotFitError(BenchError):
    """The measured process needed more memory than the device has, and was killed."""


def reason_of(error: BaseException) -> str:
    """Return an error's text, or its type's name if it has none, such as MemoryError()."""
    return str(error).strip() or type(error).__name__
