"""From a parsed model to a :class:`Graph`: decode constants, infer shapes, bring every node into the internal form.

Shapes are inferred node by node with ONNX's own rules; nodes whose inputs are all constant and whose results are
small are evaluated on the way, so that shapes which the model computes (Shape, Gather, Concat) come out static.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
from onnx import AttributeProto, NodeProto, TensorProto, TypeProto, numpy_helper

from ...errors import OnnxError
from ...te import dtype as dt
from ..evaluate import evaluate_node
from ..ir import Graph, Node, Value
from .normalize import normalize
from .proto import attribute_value, element_type, first_line, raw_array, sparse_to_array, tensor_type, to_array
from .read import Model
from .site import Site

_EAGER = 64
"""Results of at most this many elements are evaluated during import: shapes, axes, scales."""


def build_graph(source: Model, opset: int, shapes: Mapping[str, Sequence[int]]) -> Graph:
    """Build the graph; OnnxError lists every node that is not supported, in one message."""
    model = source.proto
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    builder = _Builder(model, source.directory, opset)
    builder.add_constants(source.weights)
    builder.add_inputs(shapes)
    for index, proto in enumerate(model.graph.node):
        builder.add_node(index, proto)
    return builder.finish()


class _Unknown(OnnxError):
    """A shape that is only known at run time."""


class _Builder:
    def __init__(self, model: onnx.ModelProto, directory: Path | None, opset: int) -> None:
        self.model = model
        self.directory = directory
        self.opset = opset
        self.graph = Graph([], [], [], {}, model.graph.name or "model")
        self.values: dict[str, Value] = {}
        self.used = {o.name for o in model.graph.output}
        for proto in model.graph.node:
            self.used.update(proto.input)
        self.lost: set[str] = set()  # results of nodes that are not supported: their readers are not reported
        self.problems: list[str] = []
        self.protos: dict[Value, TensorProto] = {}

    # ------------------------------------------------------------------------------ constants and inputs

    def add_constants(self, weights: Mapping[int, memoryview]) -> None:
        """Decode the initialisers, dense and sparse; weights: see :class:`.read.Model`."""
        for position, tensor in enumerate(self.model.graph.initializer):
            raw = weights.get(position)
            array = to_array(tensor, self.directory) if raw is None else raw_array(tensor, raw)
            self.add_constant(tensor.name, array)
        for sparse in self.model.graph.sparse_initializer:
            self.add_constant(sparse.values.name, sparse_to_array(sparse, self.directory))

    def add_constant(self, name: str, array: np.ndarray[Any, Any]) -> Value:
        value = Value(name, array.dtype.name, tuple(array.shape))
        self.values[name] = value
        self.graph.constants[value] = array
        return value

    def add_inputs(self, shapes: Mapping[str, Sequence[int]]) -> None:
        """Make the inputs' values, with the caller's shapes where given."""
        protos = [i for i in self.model.graph.input if i.name not in self.values]
        names = [p.name for p in protos]
        for name in shapes:
            if name not in names:
                raise OnnxError(f"shape given for {name!r}, but the model's inputs are {', '.join(names) or 'none'}")
        for proto in protos:
            kind = proto.type.WhichOneof("value")
            if kind != "tensor_type":
                raise OnnxError(
                    f"input {proto.name!r} is a {kind or 'value without a type'}; only tensors are supported"
                )
            tensor = proto.type.tensor_type
            dtype = element_type(tensor.elem_type, f"input {proto.name!r}")
            value = Value(proto.name, dtype, _input_shape(proto.name, tensor, shapes.get(proto.name)))
            self.values[proto.name] = value
            self.graph.inputs.append(value)

    # ------------------------------------------------------------------------------------------- nodes

    def add_node(self, index: int, proto: NodeProto) -> None:
        """Import one node, or note why it cannot be."""
        name = proto.name or f"{proto.op_type}_{index}"
        if any(i in self.lost for i in proto.input) and self._standard(proto) is None:
            self.lost.update(proto.output)
            return
        try:
            self._add(name, proto)
        except OnnxError as error:
            self.problems.append(f"{name} ({proto.op_type}): {error}")
            self.lost.update(o for o in proto.output if o)

    def _standard(self, proto: NodeProto) -> str | None:
        """Why the operator itself cannot be imported, whatever its inputs; None if it can."""
        if any(a.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for a in proto.attribute):
            return "operators with subgraphs are not supported"
        if proto.domain not in ("", "ai.onnx"):
            return f"operators of domain {proto.domain!r} are not supported"
        try:
            onnx.defs.get_schema(proto.op_type, self.opset, "")
        except onnx.defs.SchemaError:
            return f"is not an ONNX operator of opset {self.opset}"
        return None

    def _add(self, name: str, proto: NodeProto) -> None:
        reason = self._standard(proto)
        if reason is not None:
            raise OnnxError(reason)
        attrs = {a.name: attribute_value(a, self.directory) for a in proto.attribute}
        if proto.op_type == "Constant":
            self.add_constant(proto.output[0], _constant(attrs))
            return
        schema = onnx.defs.get_schema(proto.op_type, self.opset, "")
        for key, spec in schema.attributes.items():
            if key not in attrs and spec.default_value.name:
                attrs[key] = attribute_value(spec.default_value, None)
            if key not in attrs and spec.required:
                raise OnnxError(f"attribute {key} is required, but absent")
        site = Site(
            proto.op_type, schema.since_version, self._inputs(proto), [], attrs, lambda v: self.graph.constants.get(v)
        )
        site.outputs = self._outputs(proto, schema)
        if site.op in ("Shape", "Size"):
            self._add_shape(site)
            return
        normalize(site)
        node = Node(site.op, site.inputs, site.outputs, site.attrs, (name,))
        self.values.update((v.name, v) for v in node.outputs)
        if not self._evaluated(node):
            self.graph.nodes.append(node)

    def _inputs(self, proto: NodeProto) -> list[Value | None]:
        inputs: list[Value | None] = []
        for name in proto.input:
            if name and name not in self.values:
                raise OnnxError(f"input {name!r} is not defined before this node")
            inputs.append(self.values[name] if name else None)
        while inputs and inputs[-1] is None:
            inputs.pop()
        return inputs

    def _outputs(self, proto: NodeProto, schema: onnx.defs.OpSchema) -> list[Value]:
        """Infer dtypes and shapes of the outputs; optional ones at the end that nobody reads are dropped."""
        names = list(proto.output)
        optional = onnx.defs.OpSchema.FormalParameterOption.Optional
        while len(names) > 1 and names[-1] not in self.used and schema.outputs[len(names) - 1 :]:
            if schema.outputs[len(names) - 1].option != optional:
                break
            names.pop()
        read = [self.values[n] for n in proto.input if n]
        types = {v.name: tensor_type(v.dtype, v.shape) for v in read}
        data = {v.name: p for v in read if (p := self._small(v)) is not None}
        try:
            inferred = onnx.shape_inference.infer_node_outputs(
                schema, proto, types, data, opset_imports=[onnx.helper.make_opsetid("", self.opset)]
            )
        except Exception as error:  # InferenceError and what protobuf raises
            raise OnnxError(f"is not valid: {first_line(error)}") from None
        try:
            return [_output(n, inferred.get(n)) for n in names]
        except _Unknown as error:
            computed = [v.name for v in read[1:] if v not in self.graph.constants and not dt.is_float(v.dtype)]
            hint = f" ({', '.join(computed)} would have to be constant)" if computed else ""
            raise OnnxError(f"{error}{hint}") from None

    def _small(self, value: Value) -> TensorProto | None:
        """A constant that shape inference may need."""
        array = self.graph.constants.get(value)
        if array is None or (array.size > _EAGER and array.dtype != np.int64) or array.size > 1 << 16:
            return None
        if value not in self.protos:
            self.protos[value] = numpy_helper.from_array(np.asarray(array), value.name)
        return self.protos[value]

    def _add_shape(self, site: Site) -> None:
        shape = site.shape
        if site.op == "Size":
            result = np.array(int(np.prod(shape, dtype=np.int64)), np.int64)
        else:
            result = np.array(shape[slice(site.attrs.get("start") or 0, site.attrs.get("end"))], np.int64)
        self.add_constant(site.outputs[0].name, result)

    def _evaluated(self, node: Node) -> bool:
        """Replace a node of small constants by its results; graph outputs keep their node."""
        constants = self.graph.constants
        if any(v is not None and v not in constants for v in node.inputs):
            return False
        outputs = {o.name for o in self.model.graph.output}
        if any(v.name in outputs or np.prod(v.shape, dtype=np.int64) > _EAGER for v in node.outputs):
            return False
        try:
            arrays = evaluate_node(node, [None if v is None else constants[v] for v in node.inputs])
        except Exception:  # the reference implementation lacks this operator: it is computed at run time
            return False
        constants.update(zip(node.outputs, arrays, strict=True))
        return True

    # ------------------------------------------------------------------------------------------ the end

    def finish(self) -> Graph:
        """Connect the outputs; raise the list of problems if there are any."""
        if self.problems:
            problems = self.problems + self._without_code()
            raise OnnxError(f"{len(problems)} unsupported node(s): " + "; ".join(problems))
        graph = self.graph
        for proto in self.model.graph.output:
            value = self.values.get(proto.name)
            if value is None:
                raise OnnxError(f"output {proto.name!r} is not computed by any node")
            if value in graph.constants or value in graph.inputs:
                copy = Value(proto.name, value.dtype, value.shape)
                graph.nodes.append(Node("Identity", [value], [copy], {}, (f"Identity_{proto.name}",)))
                value = copy
            graph.outputs.append(value)
        return graph

    def _without_code(self) -> list[str]:
        """Nodes that could be imported, but for which no code can be generated: they belong into the same message."""
        from ..lowering import supports

        live = set(self.graph.inputs)
        problems = []
        for node in self.graph.nodes:
            if any(v in live for v in node.inputs):
                live.update(node.outputs)
                reason = supports(node)
                if reason is not None:
                    problems.append(f"{node.names[0]} ({node.op}): {reason}")
        return problems


def _input_shape(name: str, tensor: TypeProto.Tensor, given: Sequence[int] | None) -> tuple[int, ...]:
    """The static shape of an input: the model's, completed and checked by the caller's."""
    known = [d.dim_value if d.WhichOneof("value") == "dim_value" and d.dim_value > 0 else 0 for d in tensor.shape.dim]
    if given is None:
        if not tensor.HasField("shape"):
            raise OnnxError(f"input {name!r} has no shape; give one, as in --shape {name}=1,3,224,224")
        for i, dim in enumerate(tensor.shape.dim):
            if not known[i]:
                example = ",".join(str(k or 1) for k in known)
                label = f" ({dim.dim_param!r})" if dim.dim_param else ""
                raise OnnxError(
                    f"input {name!r}: dimension {i}{label} is dynamic; give a shape, as in --shape {name}={example}"
                )
        return tuple(known)
    shape = tuple(int(s) for s in given)
    if any(s < 1 for s in shape):
        raise OnnxError(f"shape {list(shape)} for input {name!r}: dimensions must be positive")
    if tensor.HasField("shape"):
        if len(shape) != len(known):
            raise OnnxError(
                f"shape {list(shape)} for input {name!r} has rank {len(shape)}, but the model has {len(known)}"
            )
        for i, (k, s) in enumerate(zip(known, shape, strict=True)):
            if k and k != s:
                raise OnnxError(f"shape {list(shape)} for input {name!r}: dimension {i} is fixed at {k} in the model")
    return shape


def _output(name: str, proto: TypeProto | None) -> Value:
    """The value of an inferred output."""
    if not name:
        raise OnnxError("an optional output before one that is read is absent")
    if proto is None or proto.WhichOneof("value") not in (None, "tensor_type"):
        raise OnnxError(f"output {name!r} is not a tensor, or its type cannot be inferred")
    tensor = proto.tensor_type
    dims = tensor.shape.dim
    if not tensor.HasField("shape") or any(d.WhichOneof("value") != "dim_value" for d in dims):
        raise _Unknown(f"the shape of output {name!r} depends on the data")
    return Value(name, element_type(tensor.elem_type, f"output {name!r}"), tuple(d.dim_value for d in dims))


def _constant(attrs: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    """The array of a Constant node."""
    for key, value in attrs.items():
        match key:
            case "value" | "sparse_value":
                return np.asarray(value)
            case "value_float" | "value_floats":
                return np.array(value, np.float32)
            case "value_int" | "value_ints":
                return np.array(value, np.int64)
    raise OnnxError(f"a Constant with {', '.join(attrs) or 'no value'} is not supported")
