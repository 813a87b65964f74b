"""A small notation for ONNX graphs: values that add and compare, so that formulas read as formulas."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, DTypeLike, NDArray
from onnx import helper, numpy_helper

Number = int | float


@dataclass
class Graph:
    """The nodes and constants written so far; every name starts with `prefix`."""

    prefix: str
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def constant(self, value: ArrayLike, dtype: DTypeLike) -> Value:
        """A value that is part of the graph."""
        array: NDArray[Any] = np.asarray(value, dtype)
        name = f"{self.prefix}constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return Value(self, name, array.dtype)

    def op(self, kind: str, *inputs: Value, dtype: DTypeLike | None = None, **attributes: Any) -> Value:
        """The result of an operator, of the first input's element type unless `dtype` says otherwise."""
        name = f"{self.prefix}{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(kind, [value.name for value in inputs], [name], name=name, **attributes)
        )
        return Value(self, name, np.dtype(dtype) if dtype is not None else inputs[0].dtype)


@dataclass(frozen=True)
class Value:
    """A tensor in a graph. Integer division is that of non-negative integers: ONNX cuts towards zero."""

    graph: Graph
    name: str
    dtype: np.dtype[Any]

    def _with(self, kind: str, other: Value | Number, *, dtype: DTypeLike | None = None) -> Value:
        value = other if isinstance(other, Value) else self.graph.constant(other, self.dtype)
        return self.graph.op(kind, self, value, dtype=dtype)

    def __add__(self, other: Value | Number) -> Value:
        return self._with("Add", other)

    def __sub__(self, other: Value | Number) -> Value:
        return self._with("Sub", other)

    def __mul__(self, other: Value | Number) -> Value:
        return self._with("Mul", other)

    def __floordiv__(self, other: Value | Number) -> Value:
        return self._with("Div", other)

    def __truediv__(self, other: Value | Number) -> Value:
        return self._with("Div", other)

    def __mod__(self, other: Value | Number) -> Value:
        return self._with("Mod", other)

    def __lt__(self, other: Value | Number) -> Value:
        return self._with("Less", other, dtype=np.bool_)

    def at_least(self, other: Value | Number) -> Value:
        """The larger of the two, element by element."""
        return self._with("Max", other)

    def at_most(self, other: Value | Number) -> Value:
        """The smaller of the two, element by element."""
        return self._with("Min", other)

    def to(self, dtype: DTypeLike) -> Value:
        """The same numbers as another element type."""
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.graph.op("Cast", self, dtype=dtype, to=kind)

    def where(self, condition: Value, otherwise: Number) -> Value:
        """Itself where the condition holds, else that number."""
        return self.graph.op(
            "Where", condition, self, self.graph.constant(otherwise, self.dtype), dtype=self.dtype
        )

    def reshape(self, *shape: int) -> Value:
        """The same elements in another shape: 0 keeps a dimension, -1 is worked out."""
        return self.graph.op("Reshape", self, self.graph.constant(shape, np.int64))

    def transpose(self, *order: int) -> Value:
        """The dimensions in another order."""
        return self.graph.op("Transpose", self, perm=list(order))

    def take(self, indices: Value, *, axis: int) -> Value:
        """The slices along an axis that the indices name."""
        return self.graph.op("Gather", self, indices, axis=axis)

    def head(self, count: int, *, axis: int) -> Value:
        """The first `count` slices along an axis."""
        places = ([0], [count], [axis])
        return self.graph.op("Slice", self, *(self.graph.constant(place, np.int64) for place in places))

    def total(self, *, axis: int) -> Value:
        """The sum over an axis, which stays with length 1."""
        return self.graph.op("ReduceSum", self, self.graph.constant([axis], np.int64), keepdims=1)

    def __matmul__(self, other: Value) -> Value:
        return self.graph.op("MatMul", self, other)
