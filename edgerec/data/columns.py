"""Columns of data: which one is the user, the item, the time, the rating, the title or the category."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from edgerec.errors import DataError

_USERS = "user customer client account member buyer shopper visitor reviewer subscriber listener viewer reader player"
_ITEMS = (
    "item product sku article movie film artist song track album book business venue poi restaurant recipe game app "
    "video show anime news course job listing hotel beer content document"
)
_TIMES = (
    "timestamp time ts unixreviewtime datetime date createdat created eventtime eventtimestamp eventdate timestampms "
    "timems unixtime reviewtime reviewdate orderdate ordertime orderedat purchasedate purchasetime purchasedat "
    "invoicedate transactiondate viewedat watchedat playedat ratedat ratingtime checkintime visittime visitedat "
    "clickedat updatedat tdat"
)
_RATINGS = (
    "rating ratings weight score stars overall reviewrating userrating starrating bookrating movierating itemrating "
    "productrating playcount"
)
_TITLES = (
    "title itemtitle itemname producttitle productname movietitle moviename artistname songtitle tracktitle trackname "
    "booktitle articletitle filmtitle gametitle"
)
_CATEGORIES = (
    "category categories genre genres categoryname productcategory itemcategory maincategory categoryid categorycode "
    "department class"
)
_BASKETS = "items itemids products productids skus basket"
_SUFFIXES = ("", "id", "key", "no", "nr", "number", "code", "uuid", "guid", "hash")
"""Endings of names, after separators are removed: user_id, ItemCode."""


def _names(words: str, suffixes: Sequence[str] = ("",)) -> tuple[str, ...]:
    return tuple(word + suffix for word in words.split() for suffix in suffixes)


NAMES: Mapping[str, tuple[str, ...]] = {
    "user": (*_names(_USERS, _SUFFIXES), *_names("users uid username person personid deviceid sessionid")),
    "item": (*_names(_ITEMS, _SUFFIXES), *_names(f"{_BASKETS} iid stockcode asin parentasin isbn ean gtin upc")),
    "time": _names(_TIMES),
    "rating": _names(_RATINGS),
    "title": _names(_TITLES),
    "category": _names(_CATEGORIES),
}
"""Known names of the column of each role, in lower case without separators; an earlier name takes precedence."""

OPTIONS = {"user": "--user-column", "item": "--item-column", "time": "--time-column", "rating": "--rating-column"}
"""The option that names the column of a role."""
NO_COLUMN = "none"
"""Value of an option for a column that is not to be read."""


def simple(name: str) -> str:
    """Return a column's name in lower case, without separators and RecBole's type."""
    return re.sub(r"[^a-z0-9]", "", name.partition(":")[0].lower())


def find(columns: Sequence[str], names: Collection[str]) -> int | None:
    """Return the place of the column with the earliest of `names`, or None."""
    simple_names = [simple(column) for column in columns]
    return next((simple_names.index(name) for name in names if name in simple_names), None)


def named(columns: Sequence[str], name: str) -> int | None:
    """Return the place of the column called `name`, in any case if none is called exactly so, or None."""
    if name in columns:
        return columns.index(name)
    lowered = [column.partition(":")[0].lower() for column in columns]
    return lowered.index(name.lower()) if name.lower() in lowered else None


def choose(columns: Sequence[str], given: Mapping[str, str | None], where: str) -> dict[str, int]:
    """Return the places of the columns that interactions use, by role.

    Args:
        columns: names of the columns.
        given: names that the user gave, by role; 'none' for no column.
        where: the file, for messages.

    Raises DataError if a given column is not there, or the user or the item column cannot be recognized by its name.
    """
    chosen: dict[str, int] = {}
    for role, names in NAMES.items():
        name = given.get(role)
        if name is not None and name.lower() == NO_COLUMN and role not in ("user", "item"):
            continue
        place = find(columns, names) if name is None else named(columns, name)
        if place is not None and (role != "item" or name is not None or _is_clear(columns)):
            chosen[role] = place
        elif name is not None:
            raise DataError(f"{where} has the columns {', '.join(columns)}; none of them is {name!r} ({OPTIONS[role]})")
    missing = [role for role in ("user", "item") if role not in chosen]
    if missing:
        raise DataError(
            f"{where} has the columns {', '.join(columns)}; which of them is the {' and the '.join(missing)} cannot be "
            f"recognized by name: give {' and '.join(f'{OPTIONS[role]} NAME' for role in missing)}, or "
            "numbers from 1 if the first line is no header (there are also "
            f"{', '.join(option for role, option in OPTIONS.items() if role not in missing)})"
        )
    if chosen["user"] == chosen["item"]:
        raise DataError(
            f"{where} has one column, {columns[chosen['user']]}, for the user and the item; name two with "
            f"{OPTIONS['user']} and {OPTIONS['item']}"
        )
    return chosen


def _is_clear(columns: Sequence[str]) -> bool:
    """Return True unless columns of several kinds of items, such as artists and tracks, may be the item."""
    kinds = [word for word in _ITEMS.split() if find(columns, _names(word, _SUFFIXES)) is not None]
    return len(kinds) <= 1 or kinds[0] == "item"
