"""The files that odd command lines are tried on, and a snapshot of all of them."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np

DIGITS = "1" + "0" * 400


def make_world(world: Path) -> None:
    """Write the files that commands are tried on."""
    world.mkdir(parents=True)
    rng = np.random.default_rng(3)
    lines = [
        f"{rng.integers(40)},{rng.integers(30)},{rng.integers(1, 6)},{1_600_000_000 + 3600 * n}" for n in range(900)
    ]
    head = "user,item,rating,timestamp\n"
    text = head + "\n".join(lines) + "\n"
    files: dict[str, bytes] = {
        "ratings.csv": text.encode(),
        "new.csv": (head + "\n".join(f"{user},77,5,1700000000" for user in range(12)) + "\n").encode(),
        "odd.csv": (head + 'é,a b,1,5\n"q""",x,2,6\n' * 20).encode(),
        "bom.csv": b"\xef\xbb\xbf" + text.encode(),
        "crlf.csv": text.replace("\n", "\r\n").encode(),
        "latin.csv": text.encode() + b"5\xe9,3,1,1600000000\n",
        "nul.csv": text.encode() + b"a\x00,3,1,1600000000\n",
        "ms.csv": re.sub(r"(\d{10})\n", r"\g<1>000\n", text).encode(),
        "numeric.csv": text.replace("rating", "2").encode(),
        "nan.csv": (text + "nan,3,1,1600000000\n5,inf,nan,nan\n").encode(),
        "digits.csv": (text + f"{DIGITS},3,{DIGITS},{DIGITS}\n").encode(),
        "ids.txt": "".join(f"{n}\n" for n in range(30)).encode(),
        "user-ids.txt": "".join(f"u{n}\n" for n in range(40)).encode(),
        "odd.txt": ("\x1b[31m\n" + "x" * 3000 + "\n" + "".join(f"é{n}\n" for n in range(28))).encode(),
        "foreign.txt": b"not of EdgeRec\n",
        "bytes.bin": rng.bytes(3000),
        "empty": b"",
        "deep.json": b"[" * 100_000,
        "bad.json": b'{"format": "edgerec.result", "version": 1',
        "bad.toml": b"[[[",
        "plan.toml": b'data = "ratings.csv"\nbackbone = "ials"\nmethod = "dense"\ndimensions = 4\nepochs = 1\n',
        "suite.toml": b'[[step]]\nname = "x"\n',
    }
    for name, content in files.items():
        (world / name).write_bytes(content)
    np.save(world / "items.npy", rng.standard_normal((30, 4)).astype(np.float32))
    np.save(world / "users.npy", rng.standard_normal((40, 4)).astype(np.float32))
    np.save(world / "object.npy", np.array([{}], object), allow_pickle=True)
    header = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 99999), }"
    (world / "huge.npy").write_bytes(header.ljust(127) + b"\n")
    (world / "cut.npy").write_bytes((world / "items.npy").read_bytes()[:200])
    with duckdb.connect() as connection:
        big = "unnest([18446744073709551615, 9223372036854775808, 5]::UBIGINT[]) AS timestamp"
        rows = (
            f"SELECT timestamp % 3 AS user, timestamp % 3 AS item, timestamp FROM (SELECT {big}, range FROM range(100))"
        )
        connection.execute(f"COPY ({rows}) TO '{world / 'u64.parquet'}' (FORMAT parquet)")
    for folder in ("folder", "foreign.bundle", "broken.bundle"):
        (world / folder).mkdir()
        (world / folder / "mine.txt").write_text("not of EdgeRec")
    (world / "foreign.bundle" / "manifest.json").write_text("a manifest of cargo")
    (world / "broken.bundle" / "manifest.json").write_text(
        '{"format": "edgerec.bundle", "version": "1.0", "x": ' + "[" * 5000
    )
    os.mkfifo(world / "fifo")
    for name, target in (("loop", "loop"), ("dangling", "nowhere"), ("link.csv", "ratings.csv")):
        (world / name).symlink_to(target)
    for line in (
        "train ratings.csv --out run --backbone ials --budget 50% --dimensions 4 --epochs 1",
        "export run --out a.bundle --precision int8",
        "export run --out b.bundle --precision int8 --like a.bundle --no-users",
        "keys new films.key",
        "export run --out signed.bundle --sign films.key",
        "export run --out history.bundle --no-users",
        "export --items items.npy --users users.npy --out c.bundle",
        "diff a.bundle signed.bundle --out a-b.patch",
        "bench a.bundle --processes 1 --calls 3 --seconds 0 --out result.json",
    ):
        subprocess.run(
            [sys.executable, "-m", "edgerec.cli", *line.split(" ")], cwd=world, check=False, capture_output=True
        )
    missing = [
        name
        for name in ("run", "a.bundle", "signed.bundle", "history.bundle", "result.json")
        if not (world / name).exists()
    ]
    if missing:
        raise RuntimeError(f"the world could not be made: {missing} are missing")


def snapshot(folder: Path) -> dict[str, str]:
    """Return the kind and sha256 of everything in a folder."""
    found = {}
    for root, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = Path(root) / name
            mode = path.lstat().st_mode
            key = os.fsencode(path.relative_to(folder)).decode("latin-1")
            if stat.S_ISLNK(mode):
                found[key] = f"link {path.readlink()}"
            elif stat.S_ISREG(mode):
                found[key] = hashlib.sha256(path.read_bytes()).hexdigest()
            else:
                found[key] = f"kind {stat.S_IFMT(mode)}"
    return found
