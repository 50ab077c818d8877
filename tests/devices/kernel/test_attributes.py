"""Attributes of items by the kernel, of folders and single files."""

from __future__ import annotations

import ctypes
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.experiments.kernel_fuzz import build, fuzz
from edgerec.runtime import Recommender
from edgerec.runtime.bundle import Bundle
from edgerec.runtime.stored import pack
from edgerec_export import export, from_arrays
from tests.devices.conftest import lacking

ROW, ATTRIBUTE, MANIFEST, SECTION, IDS = 33, 42, 69, 70, 75
N_ITEMS = 600
NAMES = ("genre", 'ye"ar\n\tœ😀', "code")
GENRES = ("Drama|Film", "Film", "", "Œuvre|映画")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with numbers of one byte and of two."""
    texts = [GENRES[n % 4] for n in range(N_ITEMS)], [""] * N_ITEMS, [f"{n:x}" for n in range(N_ITEMS)]
    rows = np.random.default_rng(0).standard_normal((N_ITEMS, 8), np.float32)
    source = from_arrays(rows, attributes=dict(zip(NAMES, texts, strict=True)))
    return export(source, tmp_path_factory.mktemp("attributes") / "b", verify=False).folder


class Opened:
    """A bundle of the kernel, by its C functions; `status` says whether it is one."""

    def __init__(self, manifest: bytes, tables: bytes) -> None:
        from edgerec_kernel import _Bytes, _library, _Source

        self.c, self.model, need = _library(), ctypes.c_void_p(), ctypes.c_size_t()
        self.held = np.zeros(len(tables) // 8 + 1, np.uint64), ctypes.create_string_buffer(manifest, len(manifest) or 1)
        self.held[0].view(np.uint8)[: len(tables)] = np.frombuffer(tables, np.uint8)
        given = _Bytes(ctypes.addressof(self.held[1]) if manifest else None, len(manifest))
        source = _Source(given, _Bytes(self.held[0].ctypes.data, len(tables)))
        self.status = 1
        for _ in range(4):
            self.arena = np.zeros(need.value // 8, np.uint64)
            place = self.arena.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(self.arena.nbytes)
            self.status = self.c.er_open(ctypes.byref(source), *place, ctypes.byref(need), ctypes.byref(self.model))
            if self.status != 1:
                break

    def text(self, function: str, *arguments: int) -> str | int:
        """A text, or the status of what is refused."""
        text, length = ctypes.c_void_p(), ctypes.c_size_t()
        status: int = getattr(self.c, function)(self.model, *arguments, ctypes.byref(text), ctypes.byref(length))
        return status or ctypes.string_at(text.value or 0, length.value).decode()


def content(folder: Path) -> tuple[Any, bytes]:
    """The manifest, and the tables."""
    bundle = Bundle(folder)
    return json.loads(bundle.document), bundle.tables.tobytes()


@pytest.mark.parametrize("form", ["folder", "escapes", "packed"])
def test_they_are_those_of_the_export(form: str, folder: Path, python_package: None, tmp_path: Path) -> None:
    manifest, tables = content(folder)
    document = json.dumps(manifest, ensure_ascii=form == "escapes").encode()
    if form == "packed":
        pack(folder, tmp_path / "packed")
        document, tables = b"", (tmp_path / "packed").read_bytes()
    opened, model = Opened(document, tables), Recommender.load(folder)
    assert opened.status == 0
    assert opened.c.er_facts_of(opened.model).n_attributes == len(NAMES)
    assert [opened.text("er_attribute_name", n) for n in range(4)] == [*NAMES, ATTRIBUTE]
    assert opened.text("er_attribute_name", -1) == ATTRIBUTE
    for row, item in enumerate(model.item_ids(range(N_ITEMS))):
        found = {name: opened.text("er_attribute", row, n) for n, name in enumerate(NAMES)}
        assert {name: text for name, text in found.items() if text} == model.attributes(item)
    for row, n, status in ((-1, 0, ROW), (N_ITEMS, 0, ROW), (0, 3, ATTRIBUTE), (0, -1, ATTRIBUTE)):
        assert opened.text("er_attribute", row, n) == status


def test_there_may_be_none(folder: Path, python_package: None) -> None:
    manifest, tables = content(folder)
    del manifest["item_attributes"]
    opened = Opened(json.dumps(manifest).encode(), tables)
    assert opened.status == 0
    assert opened.c.er_facts_of(opened.model).n_attributes == 0
    assert opened.text("er_attribute", 0, 0) == ATTRIBUTE


MANY = [f"name {n}" for n in range(65)]
WRONG_NAMES: tuple[Any, ...] = (
    None,
    "genre",
    {},
    [],
    ["a", 1],
    ["a", None],
    ["a", ""],
    ["a", "b", "a"],
    ["a\0"],
    ["\ud800"],
    MANY,
)


@pytest.mark.parametrize("names", WRONG_NAMES, ids=range(len(WRONG_NAMES)))
def test_names_that_are_none_are_refused(names: Any, folder: Path, python_package: None) -> None:
    manifest, tables = content(folder)
    assert Opened(json.dumps(manifest | {"item_attributes": names}).encode(), tables).status == MANIFEST


def test_names_that_escapes_make_equal_are_refused(folder: Path, python_package: None) -> None:
    manifest, tables = content(folder)
    document = json.dumps(manifest | {"item_attributes": ["œa", "NAME"]}, ensure_ascii=False)
    for name, status in (("\\u0153a", MANIFEST), ("œ\\u0061", MANIFEST), ("\\u0152a", 0)):
        assert Opened(document.replace("NAME", name).encode(), tables).status == status


DAMAGES: dict[str, Callable[[list[Any]], Any]] = {
    "another type": lambda place: [place[0], "int8", place[2]],
    "two axes": lambda place: [*place[:2], [1, *place[2]]],
    "another length": lambda place: [*place[:2], [place[2][0] - 1]],
    "empty": lambda place: [*place[:2], [0]],
}


@pytest.mark.parametrize("suffix", ["", "_texts", "_text_offsets"])
def test_sections_that_are_damaged_are_refused(suffix: str, folder: Path, python_package: None) -> None:
    manifest, tables = content(folder)
    sections, name = manifest["sections"], f"attribute_2{suffix}"
    for damage in DAMAGES.values():
        changed = manifest | {"sections": sections | {name: damage(sections[name])}}
        assert Opened(json.dumps(changed).encode(), tables).status in (SECTION, IDS)
    del sections[name]
    assert Opened(json.dumps(manifest).encode(), tables).status == SECTION
    assert Opened(json.dumps(manifest | {"item_attributes": MANY[:64]}).encode(), tables).status == SECTION


def test_a_number_of_no_text_is_refused_when_it_is_read(folder: Path, python_package: None) -> None:
    manifest, tables = content(folder)
    damaged = bytearray(tables)
    damaged[manifest["sections"]["attribute_0"][0] + 5] = len(GENRES)
    opened = Opened(json.dumps(manifest).encode(), bytes(damaged))
    assert opened.status == 0
    assert opened.text("er_attribute", 5, 0) == IDS
    assert opened.text("er_attribute", 6, 0) in GENRES


def test_corrupted_attributes_are_refused_or_answered(folder: Path, tmp_path: Path) -> None:
    """Under the sanitizers, with names in escapes too."""
    if shutil.which("gcc") is None:
        lacking("gcc", "apt-get install gcc libc6-dev")
    shutil.copytree(folder, tmp_path / "escapes")
    manifest, _ = content(folder)
    (tmp_path / "escapes" / "manifest.json").write_text(json.dumps(manifest, separators=(",", ":")))
    pack(folder, tmp_path / "packed")
    paths = [folder, tmp_path / "escapes", tmp_path / "packed"]
    outcomes, faults = fuzz(build(tmp_path / "fuzz"), paths, seed=5, first=0, count=2000)
    assert faults == []
    assert 0 < outcomes["answered"] < 1500
