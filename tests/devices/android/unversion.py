"""Android's shared objects on Linux: what asks for symbols of bionic's version is made to take any version's.

glibc's loader refuses a library whose symbols want the version 'LIBC', which bionic's have. Without its tables of
versions it binds them by name, to glibc, or to `shim.c` where bionic differs.
"""

from __future__ import annotations

import struct

VERSIONS = {0x6FFFFFF0, 0x6FFFFFFC, 0x6FFFFFFD, 0x6FFFFFFE, 0x6FFFFFFF}
"""DT_VERSYM, DT_VERDEF, DT_VERDEFNUM, DT_VERNEED, DT_VERNEEDNUM."""
IGNORED = 0x60000001
"""A tag that no loader knows: entries with it are passed over."""
SHT_DYNAMIC = 6
RENAMED = {
    b"sysconf": b"bysconf",  # its numbers differ
    b"realpath": b"bealpath",  # without a version it is glibc's oldest, which makes no room for its answer
    b"fflush": b"bflush",  # streams may be bionic's old `__sF`
    b"fprintf": b"bprintf",
    b"vfprintf": b"vbprintf",
    b"fputc": b"bputc",
    b"fputs": b"bputs",
    b"fwrite": b"bwrite",
}
"""Names of as many bytes, that `shim.c` has."""


def unversioned(library: bytes) -> bytes:
    """A 64-bit library without its tables of versions, and with the names of the shim."""
    content = bytearray(library)
    (start,) = struct.unpack_from("<Q", content, 40)
    size, count = struct.unpack_from("<HH", content, 58)
    sections = [struct.unpack_from("<IIQQQQ", content, start + number * size) for number in range(count)]
    dynamic = next((offset, nbytes) for _, kind, _, _, offset, nbytes in sections if kind == SHT_DYNAMIC)
    for place in range(dynamic[0], sum(dynamic), 16):
        (tag,) = struct.unpack_from("<Q", content, place)
        if tag in VERSIONS:
            struct.pack_into("<Q", content, place, IGNORED)
    for name, other in RENAMED.items():
        place = content.find(b"\0" + name + b"\0")
        if place >= 0:
            content[place + 1 : place + 1 + len(name)] = other
    return bytes(content)
