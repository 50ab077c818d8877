"""Tokens and the rights that they have, from a file that only its owner reads."""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from edgerec.errors import ServeError
from edgerec.files import read_bytes

Right = Literal["read", "feedback", "update"]
RIGHTS: tuple[str, ...] = get_args(Right)
SHORTEST = 20
"""Minimum length of a token: one of `openssl rand -hex 16` has 32 characters."""


@dataclass(frozen=True)
class Holder:
    """Somebody who may send requests.

    Attributes:
        digest: sha256 of the token, hexadecimal, which names its sessions; 'local' if tokens are not used.
    """

    digest: str
    rights: frozenset[str]


LOCAL = Holder("local", frozenset({"read", "feedback"}))
"""Everybody, where a server has no tokens and listens to its machine alone: none may change a bundle."""


class Tokens:
    """The tokens of a server; without a file, requests need none."""

    def __init__(self, path: Path | None) -> None:
        """Read the tokens. Raises ServeError for a file that others read or that has another form, StorageError."""
        self.needed = path is not None
        self._holders = [] if path is None else _read(path)
        rights = (one.rights for one in self._holders) if self.needed else (LOCAL.rights,)
        self.rights = frozenset[str]().union(*rights)
        """Rights that somebody has."""
        self.readers = sum("read" in one.rights for one in self._holders) or 1
        """Number of those who may read: everybody is one if tokens are not used."""
        if "read" not in self.rights:
            raise ServeError(f"no token of {path} has the right 'read'; write 'read TOKEN'")

    def holder(self, authorization: str | None) -> Holder | None:
        """Return the holder of the token in an Authorization header; None for an unknown one.

        Every token is compared, in a time that does not depend on where a wrong one differs.
        """
        if not self.needed:
            return LOCAL
        scheme, _, token = (authorization or "").partition(" ")
        given = _digest(token.strip()) if scheme.lower() == "bearer" else ""
        found = None
        for one in self._holders:
            if hmac.compare_digest(one.digest, given):
                found = one
        return found


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogateescape")).hexdigest()


def _read(path: Path) -> list[Holder]:
    content = read_bytes(path)
    if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ServeError(f"others on this machine can read {path}; protect it: chmod 600 {path}")
    found: list[Holder] = []
    for number, line in enumerate(content.decode(errors="replace").splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        rights = frozenset(words[0].split(","))
        if len(words) != 2 or not rights <= {*RIGHTS} or len(words[1]) < SHORTEST or not words[1].isascii():
            raise ServeError(
                f"{path}, line {number}, is not 'RIGHTS TOKEN'; write rights of {', '.join(RIGHTS)} with commas, and a "
                f"token of at least {SHORTEST} characters, such as one of 'openssl rand -hex 16'"
            )
        found.append(Holder(_digest(words[1]), rights))
    if len({one.digest for one in found}) != len(found) or not found:
        raise ServeError(f"{path} has no token, or one twice; write a line 'RIGHTS TOKEN' for each client")
    return found
