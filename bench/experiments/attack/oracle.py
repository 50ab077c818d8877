"""A decoder of bundles and an oracle of their answers, written from docs/reference/bundle.md alone, in float64.

    oracle = Oracle(folder, items, users)
    oracle.users(rows) @ oracle.items.values.T     # scores of every item

In bundles of version 1, scales of integers are constants of the graphs: those nearest to the scale that fits the
original table best are taken.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
EXACT = 2e-5
"""Of float32 sums, relative to the largest sum of absolute products: the tolerance of the test vectors."""
SCALE_ERROR = 0.25
"""A scale of the graphs may differ by this from the one that fits the original values best."""


class SpecificationError(Exception):
    """A bundle that the specification does not describe."""


@dataclass(frozen=True)
class Side:
    """One decoded table.

    Attributes:
        values: (rows, d) float64; of integers without a known scale, the codes.
        blocks: (rows,) the block of each row.
        step: (rows,) the scale of a code; zeros for floats.
        scaled: whether `values` are scaled; else each block has an unknown scale.
    """

    values: Floats
    blocks: Ints
    step: Floats
    scaled: bool


def float_constants(path: Path) -> Floats:
    """Return every float32 constant of a graph, those of its subgraphs too."""
    found: list[float] = []

    def walk(graph: onnx.GraphProto) -> None:
        for tensor in graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT and tensor.data_location != onnx.TensorProto.EXTERNAL:
                found.extend(numpy_helper.to_array(tensor).ravel().tolist())
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    walk(attribute.g)
                if attribute.HasField("t") and attribute.t.data_type == onnx.TensorProto.FLOAT:
                    found.extend(numpy_helper.to_array(attribute.t).ravel().tolist())

    walk(onnx.load(str(path), load_external_data=False).graph)
    return np.unique(np.abs(np.array([value for value in found if np.isfinite(value)], dtype=np.float64)))


def bucketed_ids(content: bytes, counts: list[int]) -> list[int]:
    """Return whole numbers in row order."""
    found: list[int] = []
    low, at = content[0], 1
    for count in counts:
        first = int.from_bytes(content[at : at + 8], "little", signed=True)
        buckets = int.from_bytes(content[at + 8 : at + 12], "little")
        sizes = np.frombuffer(content, "<u2", buckets, at + 12).tolist()
        at += 12 + 2 * buckets
        before = len(found)
        for bucket, size in enumerate(sizes):
            if low == 1 and size >= 32:
                inside = [x for x in range(256) if content[at + x // 8] >> x % 8 & 1]
                at += 32
            else:
                inside = [int.from_bytes(content[at + n * low : at + (n + 1) * low], "little") for n in range(size)]
                at += size * low
            if len(inside) != size or inside != sorted(set(inside)):
                raise SpecificationError(f"bucket {bucket} holds {len(inside)} ids of {size}, or not in their order")
            numbers = (first + (bucket << 8 * low) + x for x in inside)
            found += [(number + 2**63) % 2**64 - 2**63 for number in numbers]
        if len(found) - before != count:
            raise SpecificationError(f"a block of {len(found) - before} ids where {count} are promised")
    if at != len(content):
        raise SpecificationError("ids are followed by something")
    return found


def grouped_ids(content: bytes, counts: list[int]) -> list[Any]:
    """Return texts in row order."""
    at, found = 0, []

    def leb128() -> int:
        nonlocal at
        number, place = 0, 0
        while True:
            byte = content[at]
            at += 1
            number |= (byte & 127) << place
            if byte < 128:
                return number
            place += 7

    for count in counts:
        groups = int.from_bytes(content[at : at + 4], "little")
        rows = list(content[at + 4 : at + 4 + groups])
        sizes = np.frombuffer(content, "<u4", groups, at + 4 + groups).tolist()
        at += 4 + 5 * groups
        if sum(rows) != count:
            raise SpecificationError(f"groups of {sum(rows)} ids where {count} are promised")
        for inside, size in zip(rows, sizes, strict=True):
            start, text = at, b""
            for _ in range(inside):
                shared, length = leb128(), leb128()
                text = text[:shared] + content[at : at + length]
                at += length
                found.append(text.decode())
            if at != start + size:
                raise SpecificationError(f"a group of {at - start} bytes where {size} are promised")
    if at != len(content):
        raise SpecificationError("ids are followed by something")
    return found


class Oracle:
    """The answers that a bundle has to give, by its bytes: `decode` first, then ask."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        self.check_files()
        self.tables = (folder / self.manifest["tables"]["file"]).read_bytes()
        self.coded = int(self.manifest["version"].partition(".")[0]) > 1
        self.bits = {"fp32": 32, "fp16": 16, "int8": 8, "int4": 4, "int2": 2}.get(self.manifest["precision"], 0)
        if self.coded and not self.bits:
            self.bits = max(self.manifest["items"]["bits"])
        self.user_side: Side | None = None

    def decode(self, items: Floats | None, users: Floats | None) -> bool:
        """Decode the tables; False for a precision whose blocks of four bits the manifest does not tell apart.

        Args:
            items, users: (rows, d) the original tables in bundle order, for scales; None if rows were transformed.
        """
        if not self.bits:
            return False
        graphs = self.manifest["graphs"].values()
        self.constants = np.unique(np.concatenate([float_constants(self.folder / graph["file"]) for graph in graphs]))
        about = self.manifest["items"]
        self.items = self.side("l" if "l" in self.manifest["sections"] else "i", about, items, by_column=True)
        self.scanned = self.items  # what recommend reads: the first copy, where there are two
        if "l" in self.manifest["sections"]:
            first = {**about, "layout": "csc", "blocks": [[self.manifest["d"], about["rows"]]]}
            self.scanned = self.side("i", first, items, by_column=True)
        if self.manifest["users"]:
            self.user_side = self.side("u", self.manifest["users"], users, by_column=False)
        return True

    def check_files(self) -> None:
        """Compare the size and sha256 of every file, and the places of sections."""
        entries = [self.manifest["tables"], *self.manifest["graphs"].values(), *self.manifest["other_files"]]
        for entry in entries:
            content = (self.folder / entry["file"]).read_bytes()
            if len(content) != entry["bytes"] or hashlib.sha256(content).hexdigest() != entry["sha256"]:
                raise SpecificationError(f"{entry['file']} is not the manifest's")
        named = {"manifest.json", *(entry["file"] for entry in entries)}
        if strangers := {path.name for path in self.folder.iterdir()} - named:
            raise SpecificationError(f"the folder holds {sorted(strangers)} too")
        for name, (offset, _, _) in self.manifest["sections"].items():
            if offset % 64:
                raise SpecificationError(f"section {name} begins at {offset}, no multiple of 64")

    def section(self, name: str) -> NDArray[Any]:
        offset, dtype, shape = self.manifest["sections"][name]
        count = int(np.prod(shape, dtype=np.int64))
        return np.frombuffer(self.tables, np.dtype(dtype).newbyteorder("<"), count, offset).reshape(shape)

    def has(self, name: str) -> bool:
        return name in self.manifest["sections"]

    def ids(self, side: str) -> list[Any]:
        """Return the raw ids of a side in row order; row numbers where no ids ship."""
        about = self.manifest["items" if side == "item" else "users"]
        if about["ids"] == "none":
            return list(range(about["rows"]))
        content = self.section(f"{side}_ids")
        if self.coded:
            counts = [rows for _, rows in about["blocks"]]
            if about["ids"] == "str":
                return grouped_ids(content.tobytes(), counts)
            numbers = bucketed_ids(content.tobytes(), counts)
            return numbers if about["ids"] == "int" else [f"{number % 2**64:016x}" for number in numbers]
        if about["ids"] == "int":
            return [int(value) for value in content]
        offsets = self.section(f"{side}_id_offsets").astype(np.int64)
        whole = content.tobytes()
        return [whole[start:end].decode() for start, end in pairwise(offsets)]

    def side(self, name: str, about: dict[str, Any], original: Floats | None, *, by_column: bool) -> Side:
        d, rows = self.manifest["d"], about["rows"]
        codes, blocks = np.zeros((rows, d)), np.zeros(rows, np.int64)
        first = 0
        for number, (block, columns) in enumerate(self.parts(name, about, by_column=by_column)):
            rows_here = slice(first, first + len(block))
            codes[rows_here] = block if columns is None else 0
            if columns is not None:
                np.put_along_axis(codes[rows_here], columns, block, axis=1)
            blocks[rows_here] = number
            first += len(block)
        if first != rows:
            raise SpecificationError(f"blocks of {name} hold {first} rows of {rows}")
        if not np.isfinite(codes).all():
            raise SpecificationError(f"section {name} holds values that are not finite")
        if self.bits >= 16:
            return Side(codes, blocks, np.zeros(rows), True)
        return self.scale(name, codes, blocks, original)

    def unpack(self, values: NDArray[Any], count: int, bits: int) -> Floats:
        """Return the `count` values of one block from its bytes."""
        if bits == 4:
            values = np.concatenate([values & 15, values >> 4])[:count]
        if bits == 2:
            values = np.concatenate([values >> 2 * part & 3 for part in range(4)])[:count]
            return 2 * values.astype(np.float64) - 3
        zero = {8: 128, 4: 8}.get(bits, 0)
        return values.astype(np.float64) - zero

    def parts(self, name: str, about: dict[str, Any], *, by_column: bool) -> Iterator[tuple[Floats, Ints | None]]:
        """Yield the blocks of a table: (n, w) values, and the (n, w) columns of a sparse one."""
        values, layout, d = self.section(name), about["layout"], self.manifest["d"]
        if layout in ("csr", "csc"):
            yield self.csr(name, about) if layout == "csr" else self.csc(name, about), None
            return
        at, place, first = 0, 0, 0
        for number, (width, rows) in enumerate(about["blocks"]):
            bits = about["bits"][number] if self.coded else self.bits
            shared = max(8 // bits, 1)
            transposed = by_column and layout in ("dense", "mixed")
            stored = (-(-width // shared) * shared if transposed else width) * rows
            n_bytes = -(-stored // shared)
            flat = self.unpack(values[at : at + n_bytes], stored, bits)
            block = flat.reshape(-1, rows)[:width].T if transposed else flat.reshape(rows, width)
            at += n_bytes
            columns = None
            if layout == "ell":
                columns = self.section(name + "c")[place : place + rows * width].reshape(rows, width).astype(np.int64)
                place += rows * width
                if width and (np.sort(columns, axis=1)[:, 1:] == np.sort(columns, axis=1)[:, :-1]).any():
                    raise SpecificationError(f"columns of a row of {name} repeat")
            elif layout == "bitmask":
                bits = np.unpackbits(self.section(name + "m")[first : first + rows], axis=1, bitorder="little")[:, :d]
                counts = bits.sum(1, dtype=np.int64)
                if (counts > width).any():
                    raise SpecificationError(f"a row of {name} has more bits than values")
                used = np.arange(width) < counts[:, None]
                if block[~used].any():
                    raise SpecificationError(f"a row of {name} has values without a bit")
                spread = np.zeros((rows, d))
                spread[np.nonzero(bits)] = block[used]
                block = spread
            elif width < d:  # dense and mixed: zeros past a row's width
                block = np.pad(block, ((0, 0), (0, d - width)))
            first += rows
            yield block, columns

    def csr(self, name: str, about: dict[str, Any]) -> Floats:
        pointers, columns = self.section(name + "p").astype(np.int64), self.section(name + "c").astype(np.int64)
        values = self.unpack(
            self.section(name)[: -(-len(columns) * self.bits // 8) if self.bits == 4 else len(columns)],
            len(columns),
            self.bits,
        )
        table = np.zeros((about["rows"], self.manifest["d"]))
        table[np.repeat(np.arange(about["rows"]), np.diff(pointers)), columns] = values
        return table

    def csc(self, name: str, about: dict[str, Any]) -> Floats:
        rows, dimensions, stretches = (self.section(name + part).astype(np.int64) for part in "rck")
        stored = self.section(name).reshape(len(dimensions), 128 if self.bits == 4 else 256)
        table = np.zeros((about["rows"], self.manifest["d"]))
        for block, dimension, stretch, raw in zip(rows, dimensions, stretches, stored, strict=True):
            np.add.at(table[:, dimension], block + 65536 * stretch, self.unpack(raw, 256, self.bits))
        return table

    def scale(self, name: str, codes: Floats, blocks: Ints, original: Floats | None) -> Side:
        """Multiply codes by the constants of the graphs that fit the original values best."""
        rows = self.of_rows(name + "s") if self.has(name + "s") else np.ones(len(codes))
        step = np.zeros(len(codes))
        groups = np.zeros_like(blocks) if self.has(name + "s") else blocks
        if self.has(name + "f"):
            factors = self.section(name + "f").astype(np.float64)
            if self.has(name + "s"):
                power = 2.0**32 if self.section(name + "s").dtype == np.uint8 else 1.0
                step = rows * factors[0] / power
            else:
                step = factors[blocks] if len(factors) > 1 else np.full(len(codes), factors[0])
            return Side(codes * step[:, None], blocks, step, True)
        if original is None:
            return Side(codes * rows[:, None], groups, step, False)
        for group in np.unique(groups):
            here = groups == group
            units = codes[here] * rows[here, None]
            norm = np.einsum("ij,ij", units, units)
            if not norm:
                continue
            fit = np.einsum("ij,ij", units, original[here]) / norm
            near = self.constants[np.abs(self.constants - fit) <= SCALE_ERROR * abs(fit)]
            if len(near) != 1:  # none, or several that could be meant
                return Side(codes * rows[:, None], groups, step, False)
            step[here] = near[0] * rows[here]
        return Side(codes * step[:, None], blocks, step, True)

    def of_rows(self, name: str) -> Floats:
        """Return numbers of rows, up to a factor: bytes stand for their fourth powers."""
        stored = self.section(name)
        numbers: Floats = stored.astype(np.float64) ** (4 if stored.dtype == np.uint8 else 1)
        return numbers

    def weights(self) -> Floats:
        """Return the weights of items in a history."""
        top = self.manifest["encoder"].get("weight_top")
        return self.of_rows("w") if top is None else self.of_rows("w") * top / 2.0**32

    def matrix(self) -> Floats:
        """Return the matrix of a linear encoder."""
        stored: Floats = self.section("m").astype(np.float64)
        scale = self.manifest["encoder"].get("matrix_scale")
        return stored if scale is None else (stored - 128) * scale

    def history(self, rows: Ints) -> Floats:
        """Return the (d,) vector of a history of distinct item rows, before it is quantised."""
        encoder, table = self.manifest["encoder"], self.items.values
        if not len(rows):
            return np.zeros(self.manifest["d"])
        if encoder["kind"] == "linear":
            summed: Floats = self.weights()[rows] @ table[rows] / len(rows) ** encoder["power"]
            if encoder["matrix"]:
                summed = summed @ self.matrix()
            return summed + self.section("b").astype(np.float64) if encoder["bias"] else summed
        kept = table[rows]
        gram = table.T @ table + encoder["reg"] * np.eye(table.shape[1]) + encoder["alpha"] * kept.T @ kept
        return np.linalg.solve(gram, (1 + encoder["alpha"]) * kept.sum(0))

    def summed(self, rows: Ints) -> Floats:
        """Return the sums of the magnitudes that the values of a linear encoder's vector are made of."""
        encoder = self.manifest["encoder"]
        parts: Floats = np.abs(self.weights()[rows]) @ np.abs(self.items.values[rows])
        parts = parts / len(rows) ** encoder["power"]
        if encoder["matrix"]:
            parts = parts @ np.abs(self.matrix())
        return parts + np.abs(self.section("b").astype(np.float64)) if encoder["bias"] else parts

    def system(self, rows: Ints, vector: Floats) -> float:
        """Return the square of a vector's norm by the matrix of the least squares of a history."""
        encoder, table = self.manifest["encoder"], self.items.values
        products = np.square(table @ vector)
        return float(products.sum() + encoder["reg"] * vector @ vector + encoder["alpha"] * products[rows].sum())

    def quantised(self, vector: Floats) -> tuple[Floats, Floats]:
        """Return a history's vector as the graphs use it, and what each of its values may differ by."""
        largest = np.abs(vector).max(initial=0.0)
        if self.bits >= 16 or not largest:
            return vector, np.zeros_like(vector)
        step = largest / 127
        return np.round(vector / step) * step, np.where(np.abs(vector / step % 1 - 0.5) < 1e-2, step, 0.0)

    def popular(self) -> list[int] | None:
        """Return every item row in the order of an empty history's answer; None where it is refused."""
        name = self.manifest["encoder"]["empty_history"]
        if name is None:
            return None
        first = [int(row) for row in self.section(name)]
        return first + sorted(set(range(self.manifest["items"]["rows"])) - set(first))

    def similar(self, row: int) -> tuple[Floats, NDArray[np.bool_]]:
        """Return cosines with every row, and which of them the format promises: rows that are not too short."""
        lengths = np.linalg.norm(self.items.values, axis=1)
        promised = lengths >= 2.0**-13 * lengths.max(initial=0.0)
        promised &= lengths > 0
        with np.errstate(all="ignore"):
            cosines = (self.items.values / lengths[:, None]) @ (self.items.values[row] / lengths[row])
        return cosines, promised
