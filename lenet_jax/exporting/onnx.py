"""ONNX: the network's jaxpr, primitive by primitive, as a graph of standard operators.

Its input "images" is uint8 [n, *shape] for any n, its output "scores" float32 [n, classes].
The metadata holds the model card. Only the primitives of our own networks are known here.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import onnx
from jax import export
from jax.extend.core import Literal
from onnx import helper, numpy_helper

from lenet_jax.errors import UserError
from lenet_jax.exporting.forward import forward, shape_of
from lenet_jax.layers.contract import Shape
from lenet_jax.layers.network import Network

OPSET, IR_VERSION = 17, 8  # of 2022, so that older runtimes read the file too

Value = str | np.ndarray  # a tensor of the graph by its name, or a known array


def write(path: Path, module: Network, params: Any, card: dict[str, Any]) -> None:
    """Writes the network, normalisation inside, in float32.

    Raises UserError for a network with a primitive that has no rule here.
    """
    model = convert(forward(module, params), shape_of(card))
    helper.set_model_props(model, {"card": json.dumps(card)})
    onnx.save(model, path)


def read(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """The function in a file, run by ONNX's own reference. Raises UserError for a damaged file."""
    from onnx.reference import ReferenceEvaluator

    try:
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # protobuf's, the checker's, shape inference's
        raise UserError(f"{path} is no ONNX, or damaged ({error})") from error
    session: Any = ReferenceEvaluator(model)
    return lambda images: np.asarray(session.run(None, {"images": images})[0])


def convert(function: Callable[[jax.Array], jax.Array], shape: Shape) -> onnx.ModelProto:
    """The model of a function from uint8 images [n, *shape] to float32 scores [n, classes]."""
    images = jax.ShapeDtypeStruct((*export.symbolic_shape("n"), *shape), np.uint8)
    closed = jax.make_jaxpr(function)(images)
    graph = Graph()
    (result,) = graph.inline(closed, ["images"])
    graph.nodes.append(helper.make_node("Identity", [graph.tensor(result)], ["scores"]))
    nodes = _needed(graph.nodes, "scores")
    used = {name for node in nodes for name in node.input}
    (classes,) = closed.out_avals[0].shape[1:]
    return helper.make_model(
        helper.make_graph(
            nodes,
            "network",
            [helper.make_tensor_value_info("images", onnx.TensorProto.UINT8, ["n", *shape])],
            [helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, ["n", classes])],
            [tensor for tensor in graph.constants if tensor.name in used],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="lenet_jax",
        doc_string="images: grey levels 0 to 255, ink bright. scores: higher is better.",
    )


def _needed(nodes: list[onnx.NodeProto], output: str) -> list[onnx.NodeProto]:
    """The nodes that an output depends on: a network returns its states too."""
    needed, kept = {output}, []
    for node in reversed(nodes):
        if needed & set(node.output):
            needed |= set(node.input)
            kept.append(node)
    return kept[::-1]


class Graph:
    """The nodes and constants of a graph, in the order of the jaxprs that are read into it."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def node(self, operator: str, *inputs: Value, **attributes: Any) -> str:
        """Adds a node with one output; returns the name of that."""
        name = f"{operator.lower()}_{len(self.nodes)}"
        names = [self.tensor(value) for value in inputs]
        self.nodes.append(helper.make_node(operator, names, [name], name, **attributes))
        return name

    def tensor(self, value: Value) -> str:
        """The name of a value; a known array becomes a constant of the graph."""
        if isinstance(value, str):
            return value
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def inline(self, closed: Any, inputs: list[Value]) -> list[Value]:
        """Adds a closed jaxpr, calls inside it included; returns its outputs.

        Whatever depends on known arrays alone is computed here.
        """
        jaxpr = closed.jaxpr
        known = [np.asarray(constant) for constant in closed.consts]
        values: dict[Any, Value] = dict(zip(jaxpr.constvars, known, strict=True))
        values |= zip(jaxpr.invars, inputs, strict=True)

        def value(variable: Any) -> Value:
            if isinstance(variable, Literal):
                aval: Any = variable.aval
                return np.asarray(variable.val, aval.dtype)
            return values[variable]

        for equation in jaxpr.eqns:
            primitive, given = equation.primitive, [value(v) for v in equation.invars]
            if primitive.name in CALLS:
                outputs = self.inline(equation.params[CALLS[primitive.name]], given)
            elif all(isinstance(v, np.ndarray) for v in given):
                result = primitive.bind(*given, **equation.params)
                outputs = [np.asarray(v) for v in jax.tree.leaves(result)]
            elif primitive.name in RULES:
                outputs = [RULES[primitive.name](self, equation, *given)]
            else:
                raise _unknown(equation)
            values |= zip(equation.outvars, outputs, strict=True)
        return [value(variable) for variable in jaxpr.outvars]


def _unknown(equation: Any) -> UserError:
    operands = ", ".join(str(variable.aval) for variable in equation.invars)
    return UserError(
        f"no ONNX for jax's {equation.primitive.name} of {operands} as this network uses it. There "
        f"are rules for {', '.join(RULES)}. Export to stablehlo, or add a rule to "
        "lenet_jax/exporting/onnx.py"
    )


def _same(operator: str) -> Callable[..., str]:
    return lambda graph, equation, *inputs: graph.node(operator, *inputs)


def _convert(graph: Graph, equation: Any, x: Value) -> str:
    to = helper.np_dtype_to_tensor_dtype(np.dtype(equation.params["new_dtype"]))
    return graph.node("Cast", x, to=to)


def _power(graph: Graph, equation: Any, x: Value) -> str:
    return graph.node("Pow", x, np.array(equation.params["y"], np.float32))


def _sum(graph: Graph, equation: Any, x: Value) -> str:
    axes = np.array(equation.params["axes"], np.int64)
    return graph.node("ReduceSum", x, axes, keepdims=0)


def _square(graph: Graph, equation: Any, x: Value) -> str:
    return graph.node("Mul", x, x)


def _rsqrt(graph: Graph, equation: Any, x: Value) -> str:
    return graph.node("Reciprocal", graph.node("Sqrt", x))


def _largest(graph: Graph, equation: Any, x: Value) -> str:
    return graph.node("ReduceMax", x, axes=list(equation.params["axes"]), keepdims=0)


def _window(operator: str, **attributes: Any) -> Callable[..., str]:
    """The largest, or the sum, over windows of two axes; a sum is their mean times their size."""

    def rule(graph: Graph, equation: Any, x: Value, *start: Value) -> str:
        p = equation.params
        size, strides, pads = p["window_dimensions"], p["window_strides"], p["padding"]
        moved = [axis for axis, n in enumerate(size) if n > 1]
        if len(moved) != 2 or {*p["base_dilation"], *p["window_dilation"]} != {1}:
            raise _unknown(equation)
        order = [axis for axis in range(len(size)) if axis not in moved] + moved
        pooled = graph.node(
            operator,
            graph.node("Transpose", x, perm=order),
            kernel_shape=[size[axis] for axis in moved],
            strides=[strides[axis] for axis in moved],
            pads=np.array([pads[axis] for axis in moved]).T.ravel().tolist(),
            **attributes,
        )
        if operator == "AveragePool":
            pooled = graph.node("Mul", pooled, np.array(math.prod(size), np.float32))
        return graph.node("Transpose", pooled, perm=np.argsort(order).tolist())

    return rule


def _pad(graph: Graph, equation: Any, x: Value, constant: Value) -> str:
    before, after, between = np.array(equation.params["padding_config"], np.int64).T
    if between.any():
        raise _unknown(equation)
    return graph.node("Pad", x, np.concatenate([before, after]), constant)


def _slice(graph: Graph, equation: Any, x: Value) -> str:
    p, shape = equation.params, equation.invars[0].aval.shape
    strides = p["strides"] or (1,) * len(shape)
    cut = [
        a
        for a, ends in enumerate(zip(p["start_indices"], p["limit_indices"], strict=True))
        if ends != (0, shape[a]) or strides[a] != 1
    ]  # n's own axis is not among them
    if not all(isinstance(p["limit_indices"][axis], int) for axis in cut):
        raise _unknown(equation)
    first, last, step = (
        np.array([ends[axis] for axis in cut], np.int64)
        for ends in (p["start_indices"], p["limit_indices"], strides)
    )
    return graph.node("Slice", x, first, last, np.array(cut, np.int64), step)


def _joined(graph: Graph, equation: Any, *parts: Value) -> str:
    return graph.node("Concat", *parts, axis=equation.params["dimension"])


def _transpose(graph: Graph, equation: Any, x: Value) -> str:
    return graph.node("Transpose", x, perm=equation.params["permutation"])


def _reshape(graph: Graph, equation: Any, x: Value) -> str:
    # Of all shapes here one size at most depends on n, and ONNX works that one out.
    sizes = [d if isinstance(d, int) else -1 for d in equation.outvars[0].aval.shape]
    return graph.node("Reshape", x, np.array(sizes, np.int64))


def _broadcast(graph: Graph, equation: Any, x: Value) -> str:
    """New axes, and axes of size 1 stretched to a known one; n's own stay what they are."""
    shape, kept = equation.outvars[0].aval.shape, equation.params["broadcast_dimensions"]
    new = [axis for axis in range(len(shape)) if axis not in kept]
    before = dict(zip(kept, equation.invars[0].aval.shape, strict=True))
    stretched = [n for axis, n in enumerate(shape) if n != before.get(axis, 1)]
    if not all(isinstance(n, int) for n in stretched):
        raise _unknown(equation)
    wide = graph.node("Unsqueeze", x, np.array(new, np.int64))
    if not stretched:
        return wide
    sizes = [n if isinstance(n, int) else 1 for n in shape]  # Expand takes the larger of two
    return graph.node("Expand", wide, np.array(sizes, np.int64))


def _gather(graph: Graph, equation: Any, x: Value, indices: Value) -> str:
    """x[k], x[:, k, l] and the like, with known numbers: jax's indexing where n is symbolic."""
    numbers = equation.params["dimension_numbers"]
    axes = numbers.start_index_map
    if isinstance(indices, str) or indices.ndim != 1 or axes != numbers.collapsed_slice_dims:
        raise _unknown(equation)
    for axis, index in sorted(zip(axes, indices, strict=True), reverse=True):
        x = graph.node("Gather", x, np.array(index, np.int64), axis=axis)
    return graph.tensor(x)


def _convolution(graph: Graph, equation: Any, states: Value, kernel: Value) -> str:
    p = equation.params
    if {*p["lhs_dilation"], p["batch_group_count"]} != {1}:
        raise _unknown(equation)
    layout = p["dimension_numbers"]
    sums = graph.node(
        "Conv",
        graph.node("Transpose", states, perm=layout.lhs_spec),
        np.transpose(kernel, layout.rhs_spec),
        strides=p["window_strides"],
        pads=np.array(p["padding"]).T.ravel().tolist(),
        dilations=p["rhs_dilation"],
        group=p["feature_group_count"],
    )
    return graph.node("Transpose", sums, perm=np.argsort(layout.out_spec).tolist())


def _product(graph: Graph, equation: Any, x: Value, y: Value) -> str:
    (x_summed, y_summed), (x_shared, y_shared) = equation.params["dimension_numbers"]
    x_axes, y_axes = (
        list(axes[: variable.aval.ndim])
        for axes, variable in zip(("abcdefgh", "ijklmnop"), equation.invars, strict=True)
    )
    for at, there in zip((*x_shared, *x_summed), (*y_shared, *y_summed), strict=True):
        y_axes[there] = x_axes[at]
    own = [axis for axis in y_axes if axis not in x_axes]
    kept = [axis for at, axis in enumerate(x_axes) if at not in (*x_shared, *x_summed)]
    out = [*(x_axes[at] for at in x_shared), *kept, *own]
    terms = f"{''.join(x_axes)},{''.join(y_axes)}->{''.join(out)}"
    return graph.node("Einsum", x, y, equation=terms)


CALLS = {"jit": "jaxpr", "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr"}

RULES: dict[str, Callable[..., str]] = {
    "add": _same("Add"),
    "broadcast_in_dim": _broadcast,
    "concatenate": _joined,
    "conv_general_dilated": _convolution,
    "convert_element_type": _convert,
    "div": _same("Div"),
    "dot_general": _product,
    "exp": _same("Exp"),
    "gather": _gather,
    "integer_pow": _power,
    "logistic": _same("Sigmoid"),
    "max": _same("Max"),
    "mul": _same("Mul"),
    "neg": _same("Neg"),
    "pad": _pad,
    "abs": _same("Abs"),
    "erf": _same("Erf"),
    "log": _same("Log"),
    "min": _same("Min"),
    "reduce_max": _largest,
    "reduce_sum": _sum,
    "reduce_window_max": _window("MaxPool"),
    "reduce_window_sum": _window("AveragePool", count_include_pad=1),
    "rsqrt": _rsqrt,
    "pow": _same("Pow"),
    "slice": _slice,
    "sqrt": _same("Sqrt"),
    "square": _square,
    "reshape": _reshape,
    "sub": _same("Sub"),
    "tanh": _same("Tanh"),
    "transpose": _transpose,
}
