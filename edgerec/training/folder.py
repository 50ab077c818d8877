"""The folder that a command is to fill, and what it holds already."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from edgerec.errors import RunError

FolderState = Literal["new", "begun", "done"]


def state_of(folder: Path, what: str, *, done: bool, begun: bool, resume: bool, overwrite: bool) -> FolderState:
    """What a command finds: 'done' or 'begun', to go on from, or 'new', where all is to be made, what is old removed.

    Args:
        what: the folder is to hold, in errors: 'run' or 'stream'.
        done: whether it holds a whole one.
        begun: whether it holds a part of one.
        resume: go on from either.
        overwrite: start anew whatever it holds; `resume` goes first where one is begun, so that a command with both
            can be given again and again.

    Raises RunError where something would be overwritten unasked.
    """
    if folder.is_dir() and not done and not begun and any(folder.iterdir()):
        raise RunError(f"{folder} is not empty and holds no {what}; choose another --out")
    if resume and begun:
        return "begun"
    if overwrite:
        return "new"
    if done and not resume:
        raise RunError(f"{folder} holds a finished {what}; choose another --out, or --overwrite it")
    if begun:
        raise RunError(f"{folder} holds an unfinished {what}; go on with --resume, or start anew with --overwrite")
    return "done" if done else "new"
