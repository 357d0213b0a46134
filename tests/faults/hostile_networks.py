"""Networks that do harm, signed by mistake: by what they name, compute, or claim to be."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.edge_runtime.conftest import tiny_model

Make = Callable[[Path], bytes]
"""Makes a network; gets a file that it may try to read."""


def _tensor(name: str, value: object) -> TensorProto:
    return numpy_helper.from_array(np.asarray(value), name)


def _tiny(
    nodes: Sequence[onnx.NodeProto], *initializers: TensorProto, domain: str = ""
) -> onnx.ModelProto:
    """Return the tiny network, made to wait for what further nodes compute as `extra` (1,)."""
    model = tiny_model()
    graph = model.graph
    last = graph.node[-1]
    last.output[0] = "plain_embedding"
    graph.initializer.extend([_tensor("nought", np.float32(0.0)), *initializers])
    graph.node.extend(nodes)
    graph.node.append(helper.make_node("Mul", ["extra", "nought"], ["nothing"]))
    graph.node.append(helper.make_node("Add", ["plain_embedding", "nothing"], ["embedding"]))
    if domain:
        model.opset_import.append(helper.make_opsetid(domain, 1))
    return model


def _external(location: Callable[[Path], str]) -> Make:
    def make(canary: Path) -> bytes:
        tensor = TensorProto(name="secret", data_type=TensorProto.FLOAT, dims=[1])
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location(canary))
        tensor.external_data.add(key="length", value="4")
        node = helper.make_node("Identity", ["secret"], ["extra"])
        return _tiny([node], tensor).SerializeToString()

    return make


def _linked(canary: Path) -> str:
    link = Path.cwd() / "transom-weights"
    if not link.is_symlink():
        link.symlink_to(canary)
    return link.name


def _endless_loop(_: Path) -> bytes:
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["goes_on"], ["still_goes_on"]),
            helper.make_node("Sin", ["before"], ["after"]),
        ],
        "body",
        [
            value("turn", TensorProto.INT64, []),
            value("goes_on", TensorProto.BOOL, []),
            value("before", TensorProto.FLOAT, [1]),
        ],
        [value("still_goes_on", TensorProto.BOOL, []), value("after", TensorProto.FLOAT, [1])],
    )
    return _tiny(
        [helper.make_node("Loop", ["most", "yes", "start"], ["extra"], body=body)],
        _tensor("most", np.int64(2**62)),
        _tensor("yes", np.bool_(True)),
        _tensor("start", np.ones(1, np.float32)),
    ).SerializeToString()


def _gathering_loop(_: Path) -> bytes:
    """A loop that keeps what each turn gives."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["goes_on"], ["still_goes_on"]),
            helper.make_node("Expand", ["one", "many"], ["row"]),
        ],
        "body",
        [value("turn", TensorProto.INT64, []), value("goes_on", TensorProto.BOOL, [])],
        [value("still_goes_on", TensorProto.BOOL, []), value("row", TensorProto.FLOAT, None)],
    )
    return _tiny(
        [
            helper.make_node("Loop", ["most", "yes"], ["rows"], body=body),
            helper.make_node("ReduceMax", ["rows"], ["top"], keepdims=0),
            helper.make_node("Reshape", ["top", "flat"], ["extra"]),
        ],
        _tensor("most", np.int64(2**62)),
        _tensor("yes", np.bool_(True)),
        _tensor("one", np.ones(1, np.float32)),
        _tensor("many", np.array([1_000_000], np.int64)),
        _tensor("flat", np.array([1], np.int64)),
    ).SerializeToString()


def _nested_ifs(depth: int) -> Make:
    def make(_: Path) -> bytes:
        value = helper.make_tensor_value_info("out", TensorProto.FLOAT, [1])
        inner = [helper.make_node("Identity", ["start"], ["out"])]
        for level in range(depth):
            graph = helper.make_graph(inner, f"level{level}", [], [value])
            inner = [
                helper.make_node("If", ["yes"], ["out"], then_branch=graph, else_branch=graph)
                if level < 12
                else helper.make_node(
                    "If", ["yes"], ["out"], then_branch=graph,
                    else_branch=helper.make_graph(
                        [helper.make_node("Identity", ["start"], ["out"])], "end", [], [value]
                    ),
                )
            ]  # fmt: skip
        inner[0].output[0] = "extra"
        return _tiny(
            inner, _tensor("yes", np.bool_(True)), _tensor("start", np.ones(1, np.float32))
        ).SerializeToString()

    return make


def _huge(shape: Sequence[int]) -> Make:
    def make(_: Path) -> bytes:
        return _tiny(
            [
                helper.make_node("ConstantOfShape", ["shape"], ["huge"]),
                helper.make_node("ReduceMax", ["huge"], ["top"], keepdims=0),
                helper.make_node("Reshape", ["top", "flat"], ["extra"]),
            ],
            _tensor("shape", np.array(shape, np.int64)),
            _tensor("flat", np.array([1], np.int64)),
        ).SerializeToString()

    return make


def _huge_products(_: Path) -> bytes:
    """Few bytes, and matrices of 8,000 x 8,000 multiplied a hundred times."""
    nodes = [helper.make_node("Expand", ["one", "square"], ["m0"])]
    nodes += [helper.make_node("MatMul", [f"m{i}", f"m{i}"], [f"m{i + 1}"]) for i in range(100)]
    nodes += [
        helper.make_node("ReduceMax", ["m100"], ["top"], keepdims=0),
        helper.make_node("Reshape", ["top", "flat"], ["extra"]),
    ]
    return _tiny(
        nodes,
        _tensor("one", np.full((1, 1), 1e-9, np.float32)),
        _tensor("square", np.array([4000, 4000], np.int64)),
        _tensor("flat", np.array([1], np.int64)),
    ).SerializeToString()


def _lying_initializer(_: Path) -> bytes:
    tensor = TensorProto(name="lie", data_type=TensorProto.FLOAT, dims=[2**31, 2**31])
    tensor.raw_data = b"\0\0\0\0"
    return _tiny([helper.make_node("ReduceMax", ["lie"], ["extra"])], tensor).SerializeToString()


def _foreign_operator(_: Path) -> bytes:
    node = helper.make_node("Run", ["start"], ["extra"], domain="evil.example", command="id")
    start = _tensor("start", np.ones(1, np.float32))
    return _tiny([node], start, domain="evil.example").SerializeToString()


def _python_operator(_: Path) -> bytes:
    node = helper.make_node("PyOp", ["start"], ["extra"], domain="pyopadd", module="os")
    start = _tensor("start", np.ones(1, np.float32))
    return _tiny([node], start, domain="pyopadd").SerializeToString()


def _function_of_itself(_: Path) -> bytes:
    model = _tiny(
        [helper.make_node("Again", ["start"], ["extra"], domain="own")],
        _tensor("start", np.ones(1, np.float32)),
        domain="own",
    )
    model.functions.append(
        helper.make_function(
            "own", "Again", ["x"], ["y"],
            [helper.make_node("Again", ["x"], ["y"], domain="own")],
            [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)],
        )
    )  # fmt: skip
    return model.SerializeToString()


def _many_nodes(_: Path) -> bytes:
    nodes = [helper.make_node("Sin", ["start"], ["n0"])]
    nodes += [helper.make_node("Sin", [f"n{i}"], [f"n{i + 1}"]) for i in range(200_000)]
    nodes.append(helper.make_node("Identity", ["n200000"], ["extra"]))
    return _tiny(nodes, _tensor("start", np.ones(1, np.float32))).SerializeToString()


def _other_interface(_: Path) -> bytes:
    model = tiny_model()
    model.graph.output.append(helper.make_tensor_value_info("spy", TensorProto.FLOAT, ["N", 4]))
    model.graph.node.append(helper.make_node("Identity", ["embedding"], ["spy"]))
    return model.SerializeToString()


def _not_a_number(_: Path) -> bytes:
    return _tiny(
        [helper.make_node("Log", ["minus"], ["extra"])],
        _tensor("minus", np.array([-1.0], np.float32)),
    ).SerializeToString()


NETWORKS: dict[str, Make] = {
    "weights in a file by its path": _external(str),
    "weights in a file above": _external(lambda canary: "../" * 20 + str(canary)[1:]),
    "weights behind a link": _external(_linked),
    "weights in /proc": _external(lambda _: "/proc/self/environ"),
    "a loop without end": _endless_loop,
    "a loop that keeps all": _gathering_loop,
    "4,096 ways through ifs": _nested_ifs(12),
    "30 ifs in each other": _nested_ifs(30),
    "a tensor of a terabyte": _huge([2**38]),
    "a tensor of a gigabyte": _huge([2**28]),
    "a tensor of more than can be counted": _huge([2**40, 2**40]),
    "products without end": _huge_products,
    "an initializer that lies about its size": _lying_initializer,
    "an operator of somebody else": _foreign_operator,
    "an operator of Python": _python_operator,
    "a function that calls itself": _function_of_itself,
    "200,000 nodes": _many_nodes,
    "an output more": _other_interface,
    "no number": _not_a_number,
    "no network": lambda _: b"\x08\x09" + bytes(range(256)) * 100,
    "nothing": lambda _: b"",
}
