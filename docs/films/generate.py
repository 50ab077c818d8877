"""Write docs/films/ratings.csv.gz: who liked which film of a cinema that does not exist. Titles and people are made up.

usage: python docs/films/generate.py [FILE]
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import numpy as np

GENRES = {
    "sea": ("Salt, Drowned, Northern, Quiet, Last, Copper", "Harbour, Lighthouse, Tide, Ferry, Cannery"),
    "space": ("Orbital, Silent, Second, Frozen, Distant, Hollow", "Station, Moon, Signal, Colony, Perihelion"),
    "kitchen": ("Burnt, Velvet, Sunday, Borrowed, Slow, Midnight", "Soufflé, Bakery, Recipe, Banquet, Apricot"),
    "mountain": ("White, Broken, Highest, Lonely, Granite, Winter", "Ridge, Pass, Summit, Refuge, Avalanche"),
    "detective": ("Crooked, Forged, Seventh, Nameless, Paper, Locked", "Alibi, Witness, Cabinet, Inspector, Letter"),
    "music": ("Blue, Untuned, Travelling, Secret, Brass, Final", "Quartet, Refrain, Cellist, Ballroom, Encore"),
    "robots": ("Rusted, Gentle, Obsolete, Clockwork, Polite, Electric", "Butler, Gardener, Android, Workshop, Circuit"),
    "garden": ("Wild, Walled, Forgotten, Crimson, Summer, Patient", "Orchard, Greenhouse, Rose, Beekeeper, Meadow"),
}
"""First and second words of the titles of each genre."""
USERS, FILMS_EACH = 400, 15
OWN_SHARE = (0.6, 0.9)
"""Below the first: a film of a person's first genre; below the second: of the second one; else of any."""


def titles() -> list[str]:
    """The titles of all films, genre after genre."""
    return [
        f"The {first} {second}"
        for words in GENRES.values()
        for first in words[0].split(", ")
        for second in words[1].split(", ")
    ]


def ratings(seed: int = 0) -> str:
    """The rows of the file: a user, an item and its title."""
    rng = np.random.default_rng(seed)
    names = titles()
    each = len(names) // len(GENRES)
    popularity = 1 / (4 + rng.permuted(np.tile(np.arange(each), (len(GENRES), 1)), axis=1))
    lines = ["user,item,title"]
    for user in range(USERS):
        favourites = rng.choice(len(GENRES), 2, replace=False)
        seen: dict[int, None] = {}
        while len(seen) < FILMS_EACH:
            drawn = rng.random()
            genre = favourites[0] if drawn < OWN_SHARE[0] else favourites[1]
            if drawn >= OWN_SHARE[1]:
                genre = rng.integers(len(GENRES))
            chances = popularity[genre] / popularity[genre].sum()
            seen[int(genre) * each + int(rng.choice(each, p=chances))] = None
        lines += [f"u{user + 1},f{film + 1:03},{names[film]}" for film in seen]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("ratings.csv.gz")
    path.write_bytes(gzip.compress(ratings().encode(), mtime=0))
