"""The kernel refuses at least what Python's reader refuses, and its limits are those of the specification."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgerec.errors import BundleError
from edgerec.runtime.bundle import Bundle
from edgerec.runtime.manifest import LIMITS, parse_manifest
from tests.devices.kernel.conftest import KERNEL
from tests.vectors.check import FOLDER

BUNDLES = ("v2-lists-users", "v2-mean", "v2-int2", "titles", "csc-fp32-ials", "csr-fp16-users", "mixed-fp16-ncf")
VALUES: tuple[Any, ...] = (
    *(0, 1, -1, 2, 8, 64, 255, 256, 1 << 31, 1 << 53, 1 << 64, 1e9, 0.5, None, True, False, "", "x", "int", "2.0"),
    *([], {}, [1], [[1, 1]], {"a": 1}, "../x", ".x", "manifest.json", [0, "uint8", [1]], [0, "float99", [1]]),
)


def test_its_limits_are_the_specifications() -> None:
    """Those that the kernel has, under their names."""
    text = (KERNEL / "src" / "kernel.h").read_text(encoding="utf-8")
    found = {name.lower(): int(number) for name, number in re.findall(r"ER_MAX_(\w+) = (\d+),", text)}
    found |= {name.lower(): int(number) for name, number in re.findall(r"ER_MAX_(\w+) = (\d+)\n", text)}
    assert found == {name: LIMITS[name] for name in found}
    assert {"major", "manifest_bytes", "json_levels", "head_bytes"} <= set(found)


def edited(manifest: Any, rng: random.Random) -> bytes:
    """Return a manifest with a value replaced, a member missing, or another one more, as JSON."""
    places = [(manifest, key) for key in manifest]
    for holder, key in places:
        value = holder[key]
        inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        places += [(value, one) for one, _ in inner]
    holder, key = rng.choice(places)
    if rng.random() < 0.2:
        del holder[key]
    elif isinstance(holder[key], int) and rng.random() < 0.5:
        holder[key] += rng.choice([-1, 1, 1 << 20])
    else:
        holder[key] = rng.choice(VALUES)
    return json.dumps(manifest).encode()


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Return JSON that may be none: a byte is another, missing, or twice there."""
    at = rng.randrange(len(content))
    other = bytes([rng.choice(b'{}[]",:0-.e\\\x00\xff \x1f')])
    return content[:at] + rng.choice([b"", other, other + content[at : at + 1]]) + content[at + 1 :]


def opens(content: bytes, tables: NDArray[np.uint8], d: int = 8) -> bool:
    """Return True if the kernel opens a manifest with these tables."""
    from edgerec_kernel import Kernel, KernelError

    try:
        Kernel(content, tables, d)
    except ValueError as error:  # it was opened, and has another d
        return "dimensions" in str(error)
    except KernelError as error:
        if error.kind == "bundle":
            return False
        raise
    return True


@pytest.mark.parametrize("name", BUNDLES)
def test_what_python_refuses_it_refuses(name: str, python_package: None) -> None:
    bundle, rng = Bundle(FOLDER / "bundles" / name), random.Random(0)
    assert opens(bundle.document, bundle.tables)
    opened = 0
    for number in range(600):
        content = edited(json.loads(bundle.document), rng) if number % 2 else damaged(bundle.document, rng)
        try:
            manifest = parse_manifest(content, Path("manifest.json"))
            refused = manifest.tables.bytes != bundle.tables.size
        except BundleError:
            refused = True
        if opens(content, bundle.tables):
            opened += 1
            assert not refused, content
    assert opened


JSON = (
    *(b"", b"[]", b"{", b"{}x", b'{"a":01}', b'{"a":+1}', b'{"a":1.}', b'{"a":"\n"}', b'{"a":"\\x"}', b'{"a":"\xff"}'),
    *(b'{"a":NaN}', b"{'a':1}", b'{"a":1,}', b'{"a":[1,]}', b'{"a" 1}', b'{"a":tru}', b"\xef\xbb\xbf{}", b'{"a":1e}'),
    *(b'{"a":' * 40 + b"1" + b"}" * 40, b'{"a":[' + b"1," * 300000 + b"1]}", b'{"a":' + b"[" * 100000),
)


@pytest.mark.parametrize("text", JSON, ids=range(len(JSON)))
def test_json_is_refused(text: bytes, python_package: None) -> None:
    from edgerec_kernel import Kernel, KernelError

    with pytest.raises(KernelError, match="the manifest is no JSON object"):
        Kernel(text, np.zeros(64, np.uint8), 8)


def test_a_name_that_is_there_twice_is_refused(python_package: None) -> None:
    """Readers differ in which of the two they take."""
    bundle = Bundle(FOLDER / "bundles" / "v2-mean")
    for key in (b'"d":8', b'"users":null', b'"if":[512,"float32",[1]]'):
        assert key in bundle.document
        assert not opens(bundle.document.replace(key, key + b"," + key), bundle.tables)
