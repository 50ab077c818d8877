"""A builder of ONNX graphs whose tables are in one shared external file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 21
IR_VERSION = 10
"""The newest versions that onnxruntime 1.18 and later load, on the web and 32-bit ARM too."""

_ELEMENT = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "uint8": TensorProto.UINT8,
    "uint16": TensorProto.UINT16,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "bool": TensorProto.BOOL,
}

Name = str
"""The name of a tensor in a graph."""


@dataclass(frozen=True)
class Tensor:
    """A view of an array in the tables file, as a graph reads it; several tensors may share bytes.

    Attributes:
        offset: bytes from the start of the tables file.
        dtype: numpy's name.
        shape: row-major.
    """

    offset: int
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


@dataclass
class Graph:
    """A graph under construction: nodes, small constants (stored once each) and tensors of the tables file.

    Names are short, since each byte is part of the bundle.

    Attributes:
        parent: the outermost graph, for the body of a Loop, a Scan or an If; None otherwise.
        zero: int64 [1] tensor of 0 that depends on an input (see `depend_on`), so that onnxruntime cannot evaluate
            nodes that use it at load.
    """

    name: str
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    outputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    known_shapes: list[onnx.ValueInfoProto] = field(default_factory=list)
    tensors: dict[Name, Tensor] = field(default_factory=dict)
    parent: Graph | None = None
    zero: Name | None = None
    _bodies: int = 0
    _one: Name | None = None
    _scalars: dict[float, Name] = field(default_factory=dict)
    _constants: dict[tuple[str, tuple[int, ...], bytes], Name] = field(default_factory=dict)
    _values: dict[Name, NDArray[Any]] = field(default_factory=dict)

    def input(self, name: Name, dtype: str, shape: list[str | int]) -> Name:
        """Declare a graph input; strings are symbolic dimensions."""
        self.inputs.append(helper.make_tensor_value_info(name, _ELEMENT[dtype], shape))
        return name

    def output(self, value: Name, name: Name, dtype: str, shape: list[str | int]) -> None:
        """Declare `value` as the graph output `name`."""
        self.nodes.append(helper.make_node("Identity", [value], [name]))
        self.outputs.append(helper.make_tensor_value_info(name, _ELEMENT[dtype], shape))

    def shaped(self, value: Name, dtype: str, shape: list[str | int]) -> Name:
        """Declare a shape that cannot be inferred, and that onnxruntime needs to reuse a buffer."""
        self.known_shapes.append(helper.make_tensor_value_info(value, _ELEMENT[dtype], shape))
        return value

    def constant(self, value: Any, dtype: str = "int64") -> Name:
        """Add a small constant; equal ones are stored once."""
        if self.parent is not None:
            return self.parent.constant(value, dtype)
        array = np.asarray(value, dtype)
        key = (dtype, array.shape, array.tobytes())
        if key not in self._constants:
            name = f"c{len(self._constants)}"
            self._constants[key] = name
            self._values[name] = array
        return self._constants[key]

    def table(self, name: Name, tensor: Tensor) -> Name:
        """Add a tensor of the tables file; a name stands for one tensor."""
        if self.parent is not None:
            return self.parent.table(name, tensor)
        if self.tensors.setdefault(name, tensor) != tensor:
            raise ValueError(f"tensor {name} is declared twice with different contents")
        return name

    def op(self, kind: str, *inputs: Name | None, **attributes: Any) -> Name:
        """Add a node with one output and return the output's name; None omits an optional input."""
        return self.ops(kind, *inputs, count=1, **attributes)[0]

    def ops(self, kind: str, *inputs: Name | None, count: int, **attributes: Any) -> list[Name]:
        """Add a node with `count` outputs and return their names."""
        stem = f"{self._prefix}{len(self.nodes)}"
        outputs = [f"{stem}{chr(97 + i)}" if count > 1 else stem for i in range(count)]
        self.nodes.append(helper.make_node(kind, [name or "" for name in inputs], outputs, **attributes))
        return outputs

    def ints(self, *values: int) -> Name:
        """Add a one-dimensional int64 constant."""
        return self.constant(list(values))

    def reshape(self, value: Name, *shape: int) -> Name:
        """Add a Reshape; 0 copies a dimension of the input, -1 is inferred."""
        return self.op("Reshape", value, self.ints(*shape))

    def cast(self, value: Name, dtype: str) -> Name:
        return self.op("Cast", value, to=_ELEMENT[dtype])

    def leading(self, value: Name, columns: int, axis: int = -1) -> Name:
        """Add a slice of the first `columns` entries along an axis."""
        return self.op("Slice", value, self.ints(0), self.ints(columns), self.ints(axis))

    @property
    def _prefix(self) -> str:
        return "v" if self.parent is None else self.name

    def body(self) -> Graph:
        """Return a new graph inside this one, as the body of a Loop, a Scan or an If.

        It can use the values of this graph by name, and its constants and tables are stored in the outermost graph.
        """
        root = self if self.parent is None else self.parent
        name, number = "", root._bodies
        root._bodies += 1
        while not name or number:  # capitals, since other names are lower-case
            number, letter = divmod(number, 26)
            name += chr(65 + letter)
        return Graph(name, parent=root, zero=self.zero)

    def nested(self) -> onnx.GraphProto:
        """Return the finished body, as the attribute of its Loop, Scan or If."""
        return helper.make_graph(self.nodes, self.name, self.inputs, self.outputs, value_info=self.known_shapes)

    def each(
        self,
        values: Name,
        dtype: str,
        shape: list[str | int],
        make: Callable[[Graph, Name], Name],
        out: tuple[str, list[str | int]],
    ) -> Name:
        """Add a Scan of `make` over the leading axis: [B, *shape] -> [B, *out shape]."""
        body = self.body()
        entry = body.input(f"{body.name}i", dtype, shape)
        body.output(make(body, entry), f"{body.name}o", *out)
        return self.op("Scan", values, body=body.nested(), num_scan_inputs=1)

    def repeated(self, count: int, make: Callable[[Graph, Name], Name], out: list[str | int]) -> Name:
        """Add a Loop of `make` over range(count): -> [count, *out] float32."""
        body = self.body()
        number = body.input(f"{body.name}n", "int64", [])
        go = body.input(f"{body.name}c", "bool", [])
        body.output(go, f"{body.name}d", "bool", [])
        body.output(make(body, number), f"{body.name}o", "float32", out)
        return self.op("Loop", self.constant(count), self.constant(True, "bool"), body=body.nested())

    def either(
        self,
        condition: Name,
        then: Callable[[Graph], Sequence[Name]],
        otherwise: Callable[[Graph], Sequence[Name]],
        outs: Sequence[tuple[str, list[str | int]]],
    ) -> list[Name]:
        """Add an If with two bodies, of which one is executed; `condition` is a bool scalar."""
        bodies = {}
        for branch, make in (("then_branch", then), ("else_branch", otherwise)):
            body = self.body()
            for number, (value, out) in enumerate(zip(make(body), outs, strict=True)):
                body.output(value, f"{body.name}o{number}", *out)
            bodies[branch] = body.nested()
        return self.ops("If", condition, count=len(outs), **bodies)

    def depend_on(self, value: Name) -> None:
        """Make `zero` depend on a graph input, whose leading dimension onnxruntime does not know at load."""
        self.zero = self.op("Min", self.op("Shape", value, start=0, end=1), self.ints(0))

    def fresh(self, table: Name) -> Name:
        """Add a copy of a table, along axis 0, that is computed at each run.

        onnxruntime evaluates nodes of constants at load, and would hold decoded tables in memory. This copy depends on
        an input, and so cannot be evaluated at load.
        """
        if self.zero is None:
            raise ValueError("name an input with depend_on first")
        return self.op("Slice", table, self.zero, self.ints(np.iinfo(np.int64).max), self.ints(0))

    def one(self) -> Name:
        """Add a float32 scalar 1 that depends on an input.

        Values scaled by it are not decoded at load, and need no `fresh` copy.
        """
        if self.zero is None:
            raise ValueError("name an input with depend_on first")
        if self._one is None:
            zero = self.cast(self.op("Squeeze", self.zero), "float32")
            self._one = self.op("Add", zero, self.constant(1.0, "float32"))
        return self._one

    def scalar(self, value: float) -> Name:
        """Add a float32 scalar that depends on an input, as `one` does; equal ones are computed once."""
        if value not in self._scalars:
            self._scalars[value] = self.op("Mul", self.one(), self.constant(value, "float32"))
        return self._scalars[value]

    def mask(self, value: int) -> Name:
        """Add a uint8 scalar that depends on an input, for bit operators, as `fresh` without the copy."""
        if self.zero is None:
            raise ValueError("name an input with depend_on first")
        return self.cast(self.op("Add", self.zero, self.constant(value)), "uint8")

    def serialize(self, location: str) -> bytes:
        """Return the bytes of the ONNX file; its tables are in the file `location` of the same folder."""
        initializers = [numpy_helper.from_array(value, name) for name, value in self._values.items()]
        initializers += [_external(name, tensor, location) for name, tensor in self.tensors.items()]
        graph = helper.make_graph(
            self.nodes, self.name, self.inputs, self.outputs, initializers, value_info=self.known_shapes
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="edgerec"
        )
        content: bytes = model.SerializeToString(deterministic=True)
        return content


def _external(name: Name, tensor: Tensor, location: str) -> TensorProto:
    proto = TensorProto(name=name, data_type=_ELEMENT[tensor.dtype], dims=tensor.shape)
    proto.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(tensor.offset)), ("length", str(tensor.nbytes))):
        proto.external_data.add(key=key, value=value)
    return proto
