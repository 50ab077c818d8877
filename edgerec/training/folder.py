"""The folder that a command is to fill, and what it holds already."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from edgerec.errors import RunError
from edgerec.files import remove_leftovers, torn_files

FolderState = Literal["new", "begun", "done"]


def state_of(folder: Path, what: str, *, done: bool, begun: bool, resume: bool, overwrite: bool) -> FolderState:
    """What a command finds: 'done' or 'begun', to go on from, or 'new', where all is to be made.

    What a killed command was writing when it ended is removed.

    Args:
        what: the folder is to hold, in errors: 'run' or 'stream'.
        done: whether it holds a whole one.
        begun: whether it holds a part of one.
        resume: go on from either.
        overwrite: start anew whatever it holds; `resume` goes first where one is begun, so that a command with both
            can be given again and again.

    Raises RunError where something would be overwritten unasked.
    """
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file, and a {what} is a folder; choose another --out")
    torn = set(torn_files(folder))
    if folder.is_dir() and not done and not begun and any(path not in torn for path in folder.iterdir()):
        raise RunError(f"{folder} is not empty and holds no {what}; choose another --out")
    if done and not (resume or overwrite):
        raise RunError(f"{folder} holds a finished {what}; choose another --out, or --overwrite it")
    if begun and not (resume or overwrite):
        raise RunError(f"{folder} holds an unfinished {what}; go on with --resume, or start anew with --overwrite")
    remove_leftovers(folder)
    if begun and resume:
        return "begun"
    return "done" if done and not overwrite else "new"
