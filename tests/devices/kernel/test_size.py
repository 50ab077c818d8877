"""The kernel's object code for a Cortex-M4, by ziglang's clang: its size, and that it is the same each time."""

from __future__ import annotations

import importlib.util
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.devices.conftest import lacking
from tests.devices.kernel.conftest import KERNEL, STRICT, sources

TARGET = ("-target", "thumb-freestanding-eabihf", "-mcpu=cortex_m4+vfp4d16sp", "-ffreestanding")
SMALLEST = ("-arm-promote-constant", "-enable-pre=0", "-phi-node-folding-threshold=0")
"""Options of LLVM: constants next to the code, no copies of code for known values, no selects for branches."""
FLAGS = (
    *TARGET,
    *("-Oz", "-Xclang", "-Oz", *(word for option in SMALLEST for word in ("-mllvm", option))),
    *("-fno-unwind-tables", "-fno-asynchronous-unwind-tables"),
)
LIMITS = {(): 34_200, ("-DER_SIGNATURES=0",): 29 << 10, ("-DER_SHA256=0",): 28_800}
"""Bytes of code and constants, by what is left out."""
ALLOCATED = 2


def objects(folder: Path, options: tuple[str, ...]) -> dict[str, bytes]:
    """Return the object files by name."""
    if importlib.util.find_spec("ziglang") is None:
        lacking("ziglang", "pip install ziglang")
    folder.mkdir()
    zig = [sys.executable, "-m", "ziglang", "cc", *STRICT, *FLAGS, *options, "-c"]
    found = {}
    for path in sources():
        out = folder / f"{Path(path).stem}.o"
        # From the kernel's folder, so that no path of this machine is in an object.
        subprocess.run([*zig, str(Path(path).relative_to(KERNEL)), "-o", str(out)], check=True, timeout=300, cwd=KERNEL)
        found[out.name] = out.read_bytes()
    return found


def loaded_bytes(content: bytes) -> int:
    """Return the bytes of an ELF file's sections that are loaded: code, constants, data."""
    (at,) = struct.unpack_from("<I", content, 32)
    size, count = struct.unpack_from("<HH", content, 46)
    headers = [struct.unpack_from("<10I", content, at + number * size) for number in range(count)]
    return sum(header[5] for header in headers if header[2] & ALLOCATED)


def data_bytes(content: bytes) -> int:
    """Return the bytes of sections that are loaded and written to: memory that no caller gave."""
    (at,) = struct.unpack_from("<I", content, 32)
    size, count = struct.unpack_from("<HH", content, 46)
    headers = [struct.unpack_from("<10I", content, at + number * size) for number in range(count)]
    return sum(header[5] for header in headers if header[2] & 3 == 3)


@pytest.mark.parametrize("options", LIMITS, ids=lambda options: " ".join(options) or "all")
def test_it_fits(options: tuple[str, ...], tmp_path: Path) -> None:
    found = objects(tmp_path / "objects", options)
    assert sum(map(loaded_bytes, found.values())) <= LIMITS[options]
    assert sum(map(data_bytes, found.values())) == 0


def test_it_is_built_the_same_each_time(tmp_path: Path) -> None:
    assert objects(tmp_path / "one", ()) == objects(tmp_path / "other", ())


def test_it_needs_nothing_but_memory_functions(tmp_path: Path) -> None:
    """Names that objects leave open are the kernel's own, the compiler's, or memcpy, memset and memcmp."""
    open_names, own = set(), set()
    for content in objects(tmp_path / "objects", ()).values():
        undefined, defined = symbols(content)
        open_names |= undefined
        own |= defined
    assert {name for name in open_names - own if not name.startswith("__aeabi_")} <= {"memcpy", "memset", "memcmp"}


def symbols(content: bytes) -> tuple[set[str], set[str]]:
    """Return the names that an ELF file leaves open, and those that it defines for others."""
    (at,) = struct.unpack_from("<I", content, 32)
    size, count = struct.unpack_from("<HH", content, 46)
    headers = [struct.unpack_from("<10I", content, at + number * size) for number in range(count)]
    (table,) = [header for header in headers if header[1] == 2]
    names = headers[table[6]]
    undefined, defined = set(), set()
    for place in range(table[4], table[4] + table[5], 16):
        name, _, _, info, _, section = struct.unpack_from("<IIIBBH", content, place)
        start = names[4] + name
        text = content[start : content.index(b"\0", start)].decode()
        if info >> 4 == 1:
            (defined if section else undefined).add(text)
    return undefined, defined
