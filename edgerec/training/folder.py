"""The state of a command's output folder."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from edgerec.errors import RunError
from edgerec.files import remove_leftovers, torn_files

FolderState = Literal["new", "begun", "done"]


def state_of(folder: Path, what: str, *, done: bool, begun: bool, resume: bool, overwrite: bool) -> FolderState:
    """Return the state of a folder: 'done', 'begun' or 'new'; remove the temporary files of a killed command.

    Args:
        what: the artefact of the folder, for messages: 'run' or 'stream'.
        done: True if it holds a finished one.
        begun: True if it holds an unfinished one.
        resume: continue from either.
        overwrite: start from scratch; `resume` has priority for an unfinished one, so that a command with both can be
            repeated.

    Raises RunError if something would be overwritten without the option.
    """
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file, and a {what} is a folder; choose another --out")
    torn = set(torn_files(folder))
    if folder.is_dir() and not done and not begun and any(path not in torn for path in folder.iterdir()):
        raise RunError(f"{folder} is not empty and holds no {what}; choose another --out")
    if done and not (resume or overwrite):
        raise RunError(f"{folder} holds a finished {what}; choose another --out, or --overwrite it")
    if begun and not (resume or overwrite):
        raise RunError(f"{folder} holds an unfinished {what}; continue with --resume, or start again with --overwrite")
    remove_leftovers(folder)
    if begun and resume:
        return "begun"
    return "done" if done and not overwrite else "new"
