"""A small builder of ONNX graphs whose tables stay outside, in one shared file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 21
IR_VERSION = 10
"""The newest pair that every runtime from onnxruntime 1.19 on loads, web and 32-bit ARM included."""

_ELEMENT = {
    "float32": TensorProto.FLOAT,
    "uint8": TensorProto.UINT8,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "bool": TensorProto.BOOL,
}

Name = str
"""The name of a tensor in the graph."""


@dataclass(frozen=True)
class Tensor:
    """An array in the tables file, as a graph sees it: several tensors may view the same bytes.

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
    """Collects nodes, small constants (stored in the graph, each once) and tensors of the tables file.

    Names are as short as they can be, since every byte ships.
    """

    name: str
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    outputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    known_shapes: list[onnx.ValueInfoProto] = field(default_factory=list)
    tensors: dict[Name, Tensor] = field(default_factory=dict)
    _constants: dict[tuple[str, tuple[int, ...], bytes], Name] = field(default_factory=dict)
    _values: dict[Name, NDArray[Any]] = field(default_factory=dict)

    def input(self, name: Name, dtype: str, shape: list[str | int]) -> Name:
        """Declare a graph input; strings are symbolic dimensions."""
        self.inputs.append(helper.make_tensor_value_info(name, _ELEMENT[dtype], shape))
        return name

    def output(self, value: Name, name: Name, dtype: str, shape: list[str | int]) -> None:
        """Declare that `value` leaves the graph as `name`."""
        self.nodes.append(helper.make_node("Identity", [value], [name]))
        self.outputs.append(helper.make_tensor_value_info(name, _ELEMENT[dtype], shape))

    def shaped(self, value: Name, dtype: str, shape: list[str | int]) -> Name:
        """Tell a value's shape, where it cannot be inferred and onnxruntime needs it to reuse a buffer."""
        self.known_shapes.append(helper.make_tensor_value_info(value, _ELEMENT[dtype], shape))
        return value

    def constant(self, value: Any, dtype: str = "int64") -> Name:
        """A small constant inside the graph; equal ones are stored once."""
        array = np.asarray(value, dtype)
        key = (dtype, array.shape, array.tobytes())
        if key not in self._constants:
            name = f"c{len(self._constants)}"
            self._constants[key] = name
            self._values[name] = array
        return self._constants[key]

    def table(self, name: Name, tensor: Tensor) -> Name:
        """An array of the tables file. The same name always means the same tensor."""
        if self.tensors.setdefault(name, tensor) != tensor:
            raise ValueError(f"tensor {name} is declared twice with different contents")
        return name

    def op(self, kind: str, *inputs: Name | None, **attributes: Any) -> Name:
        """Add a node with one output and return the output's name; None is an input left out."""
        return self.ops(kind, *inputs, count=1, **attributes)[0]

    def ops(self, kind: str, *inputs: Name | None, count: int, **attributes: Any) -> list[Name]:
        """Add a node with `count` outputs and return their names."""
        outputs = [f"v{len(self.nodes)}{chr(97 + i)}" if count > 1 else f"v{len(self.nodes)}" for i in range(count)]
        self.nodes.append(helper.make_node(kind, [name or "" for name in inputs], outputs, **attributes))
        return outputs

    def ints(self, *values: int) -> Name:
        """A one-dimensional int64 constant."""
        return self.constant(list(values))

    def reshape(self, value: Name, *shape: int) -> Name:
        """Reshape; 0 copies a dimension of the input, -1 is inferred."""
        return self.op("Reshape", value, self.ints(*shape))

    def cast(self, value: Name, dtype: str) -> Name:
        return self.op("Cast", value, to=_ELEMENT[dtype])

    def leading(self, value: Name, columns: int, axis: int = -1) -> Name:
        """The first `columns` entries along an axis."""
        return self.op("Slice", value, self.ints(0), self.ints(columns), self.ints(axis))

    def serialize(self, location: str) -> bytes:
        """The ONNX file's bytes; its tables lie in the file `location` beside it."""
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
