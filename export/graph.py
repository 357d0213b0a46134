"""From the torch network to an ONNX graph that takes pixels and gives calibrated logits.

The graph's input is `image`, uint8 (N, S, S, 3) BGR; its outputs are one float32 (N, C) for each
task, by the task's name, and `embedding`, float32 (N, D). Its form is chosen for INT8:

- The first convolution takes `pixel - mean`, no matter how the network spells its normalisation:
  channel order and scale move into that layer's weights. Where the mean is one whole number, the
  raw bytes are then already the quantised tensor (see `export.quantize`).
- A mean over height and width becomes GlobalAveragePool, because onnxruntime quantises that and
  not ReduceMean: the whole trunk is integer arithmetic, which gives the same bits on every
  machine.
- The last linear layer of each head is found by `head_layers`; it stays in float, and
  temperatures are folded into its weights.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from onnx import helper, numpy_helper

from transom.errors import ExportError
from transom.tasks import TaskSet

OPSET = 20
IMAGE = "image"
EMBEDDING = "embedding"
PLANES = "image.planes"
"""The image as uint8 (N, 3, S, S)."""
CENTRED = "image.centred"
"""What the first convolution takes: the planes minus their mean, float32."""
MEAN = "image.mean"
"""The initializer that is subtracted: one number, or one for each channel."""

_PIXELS = "image.pixels"
_OUTPUT = "output."
_MAX_BATCH = 1024

Floats = npt.NDArray[np.float32]


class HeadLayer(NamedTuple):
    """The last linear layer of a head: its nodes and where its weights are.

    Attributes:
        nodes: Names of the nodes, one Gemm or MatMul and Add.
        weights: (index into the graph's nodes, index of the input) of weight and bias.
    """

    nodes: tuple[str, ...]
    weights: tuple[tuple[int, int], ...]


class _Deployed(torch.nn.Module):
    """The network as the bundle's graph sees it: bytes in, outputs in a fixed order."""

    def __init__(self, network: torch.nn.Module, tasks: TaskSet) -> None:
        super().__init__()
        self.network = network
        self.task_names = tasks.names

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        logits, embedding = self.network(image.permute(0, 3, 1, 2).to(torch.float32))
        return (*(logits[name] for name in self.task_names), embedding)


def export_graph(network: torch.nn.Module, tasks: TaskSet, size: int) -> bytes:
    """Return the network as an ONNX file, float32, not yet calibrated.

    Args:
        network: Takes float32 (N, 3, S, S) BGR, 0 to 255; gives logits by task, float32 (N, C),
            and the embedding, float32 (N, D). In eval mode, on the CPU.
        tasks: The heads, in the order the graph's outputs shall have.
        size: Side S of the crops in pixels.

    Raises:
        ExportError: A task's logits do not come from a linear layer.
    """
    model = _trace(_Deployed(network, tasks).eval(), tasks, size)
    _pool_globally(model)
    _centre_input(model, size)
    _tidy(model)
    head_layers(model, tasks.names)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def fold_temperatures(model: bytes, temperatures: Mapping[str, float]) -> bytes:
    """Return the graph with each task's logits divided by its temperature.

    The division happens in the weights of the head's last linear layer, which is float in every
    precision: nothing is added to the graph, and it can be done again, after quantisation, with
    the temperature that the INT8 logits need.

    Args:
        model: What `export_graph` or `quantize` returned.
        temperatures: By task, above 0.

    Raises:
        ValueError: A temperature is not above 0.
        ExportError: A task's logits do not come from a float linear layer.
    """
    proto = onnx.load_from_string(model)
    layers = head_layers(proto, tuple(temperatures))
    for task, temperature in temperatures.items():
        if not temperature > 0.0:
            raise ValueError(f"temperature of {task!r} must be above 0, got {temperature:g}")
        for node, position in layers[task].weights:
            values = _initializers(proto)[proto.graph.node[node].input[position]]
            scaled = np.asarray(values, np.float32) / np.float32(temperature)
            _replace_weight(proto, node, position, scaled)
    _drop_unused(proto)
    return bytes(proto.SerializeToString(deterministic=True))


def head_layers(model: onnx.ModelProto, tasks: Sequence[str]) -> dict[str, HeadLayer]:
    """Return the last linear layer of each task's head.

    Raises:
        ExportError: A task's logits come from something else, or its weights are not float.
    """
    makers = {name: i for i, node in enumerate(model.graph.node) for name in node.output}
    constants = _initializers(model)
    return {task: _head_layer(model, task, makers, constants) for task in tasks}


def _head_layer(
    model: onnx.ModelProto,
    task: str,
    makers: Mapping[str, int],
    constants: Mapping[str, npt.NDArray[np.generic]],
) -> HeadLayer:
    last = makers.get(task)
    if last is None:
        raise ExportError(f"export stopped: the graph has no output for task `{task}`")
    node = model.graph.node[last]
    places: list[tuple[int, int]] = []
    names = [node.name]
    if node.op_type == "Gemm":
        places = [(last, position) for position in range(1, len(node.input))]
    elif node.op_type == "Add":
        bias = 1 if node.input[1] in constants else 0
        product = makers.get(node.input[1 - bias], last)
        if model.graph.node[product].op_type == "MatMul":
            places = [(product, 1), (last, bias)]
            names = [model.graph.node[product].name, node.name]
    elif node.op_type == "MatMul":
        places = [(last, 1)]
    weights = [constants.get(model.graph.node[i].input[k]) for i, k in places]
    if not weights or any(w is None or w.dtype != np.float32 for w in weights):
        raise ExportError(
            f"export stopped: the logits of `{task}` must come from a float linear layer, come "
            f"from {node.op_type}; end the head with torch.nn.Linear"
        )
    return HeadLayer(tuple(names), tuple(places))


def _trace(deployed: _Deployed, tasks: TaskSet, size: int) -> onnx.ModelProto:
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    batch = torch.export.Dim("N", min=1, max=_MAX_BATCH)
    with torch.no_grad(), _quiet_exporter():
        program = torch.onnx.export(
            deployed,
            (example,),
            dynamo=True,
            external_data=False,
            opset_version=OPSET,
            input_names=[IMAGE],
            output_names=[_OUTPUT + name for name in (*tasks.names, EMBEDDING)],
            dynamic_shapes=({0: batch},),
            verbose=False,
        )
    if program is None:  # only with dynamo=False
        raise ExportError("export stopped: torch gave no ONNX program")
    # The weights of an ONNX program are torch's own memory: a copy keeps the network untouched.
    return onnx.load_from_string(program.model_proto.SerializeToString())


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence what torch's exporter says of itself and of packages that are not needed."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*LeafSpec.*is deprecated", FutureWarning)
            yield
    finally:
        logger.setLevel(level)


def _pool_globally(model: onnx.ModelProto) -> None:
    """Spell a mean over height and width as GlobalAveragePool."""
    constants = _initializers(model)
    ranks = _ranks(model)
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if not _is_spatial_mean(node, constants, ranks):
            nodes.append(node)
            continue
        keeps = next((a.i for a in node.attribute if a.name == "keepdims"), 1)
        pooled = node.output[0] if keeps else f"{node.output[0]}_pooled"
        nodes.append(helper.make_node("GlobalAveragePool", [node.input[0]], [pooled]))
        if not keeps:
            nodes.append(helper.make_node("Flatten", [pooled], [node.output[0]], axis=1))
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _is_spatial_mean(
    node: onnx.NodeProto,
    constants: Mapping[str, npt.NDArray[np.generic]],
    ranks: Mapping[str, int],
) -> bool:
    if node.op_type != "ReduceMean" or len(node.input) < 2 or ranks.get(node.input[0]) != 4:
        return False
    axes = constants.get(node.input[1])
    return axes is not None and sorted(int(axis) % 4 for axis in axes.ravel()) == [2, 3]


def _ranks(model: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model).graph
    return {value.name: len(value.type.tensor_type.shape.dim) for value in inferred.value_info}


class _Normalisation(NamedTuple):
    """What lies between the image and the first convolution: out[o] = scale[o] * (in[p[o]] - m)."""

    source: npt.NDArray[np.int64]
    scale: npt.NDArray[np.float64]
    mean: npt.NDArray[np.float64]


def _centre_input(model: onnx.ModelProto, size: int) -> None:
    """Reduce what lies before the first convolution to transpose, cast and one subtraction.

    Several convolutions may take what is normalised once: a trunk and fixed filters, two trunks.
    A graph that does anything else with its pixels is left as it is.
    """
    count = _plain_prefix(model)
    if count == 0:
        return
    normalisation = _probe(model, count, size)
    if normalisation is None:
        return
    source, scale, mean = normalisation
    for index in _readers(model, model.graph.node[count].input[0]):
        convolution = model.graph.node[index]
        weight = _initializers(model)[convolution.input[1]].astype(np.float64)
        folded = np.empty_like(weight)
        folded[:, source] = weight * scale[None, :, None, None]
        _replace_weight(model, index, 1, folded.astype(np.float32))
        convolution.input[0] = CENTRED
    means = np.empty(3)
    means[source] = mean
    shared = np.ptp(means.astype(np.float32)) == 0
    constant = np.float32(means[0]) if shared else means.astype(np.float32).reshape(3, 1, 1)
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(constant), MEAN))
    prefix = [
        helper.make_node("Transpose", [IMAGE], [PLANES], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", [PLANES], [_PIXELS], to=onnx.TensorProto.FLOAT),
        helper.make_node("Sub", [_PIXELS, MEAN], [CENTRED]),
    ]
    rest = list(model.graph.node)[count:]
    del model.graph.node[:]
    model.graph.node.extend(prefix + rest)
    _drop_unused(model)


def _plain_prefix(model: onnx.ModelProto) -> int:
    """Return how many nodes stand, one after the other, before the first convolutions; else 0."""
    constants = _initializers(model)
    tensor = IMAGE
    for count, node in enumerate(model.graph.node):
        if node.input[0] != tensor:
            return 0
        readers = [model.graph.node[index] for index in _readers(model, tensor)]
        if node.op_type == "Conv":
            weights = [constants.get(r.input[1]) for r in readers if r.op_type == "Conv"]
            filters = [weight for weight in weights if weight is not None and weight.shape[1] == 3]
            return count if len(filters) == len(readers) else 0
        if len(readers) > 1 or any(name not in constants for name in node.input[1:]):
            return 0
        tensor = node.output[0]
    return 0


def _readers(model: onnx.ModelProto, tensor: str) -> list[int]:
    return [index for index, node in enumerate(model.graph.node) if tensor in node.input]


def _probe(model: onnx.ModelProto, count: int, size: int) -> _Normalisation | None:
    """Run the first nodes on noise: is each plane one channel, scaled and shifted?"""
    nodes = list(model.graph.node)[:count]
    wanted = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "prefix",
        [helper.make_tensor_value_info(IMAGE, onnx.TensorProto.UINT8, [1, size, size, 3])],
        [helper.make_tensor_value_info(nodes[-1].output[0], onnx.TensorProto.FLOAT, None)],
        [value for value in model.graph.initializer if value.name in wanted],
    )
    prefix = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=model.ir_version
    )
    session = onnxruntime.InferenceSession(
        prefix.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    noise = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
    planes = np.asarray(session.run(None, {IMAGE: noise})[0])
    if planes.shape != (1, 3, size, size):
        return None
    known = np.column_stack([noise.reshape(-1, 3), np.ones(size * size)]).astype(np.float64)
    seen = planes.reshape(3, -1).T.astype(np.float64)
    coefficients = np.linalg.lstsq(known, seen, rcond=None)[0]  # (3 channels and 1, 3 planes)
    source = np.abs(coefficients[:3]).argmax(axis=0)
    scale = coefficients[source, np.arange(3)]
    model_of_it = known[:, source] * scale + coefficients[3]
    is_affine = np.abs(model_of_it - seen).max() <= 1e-5 * np.abs(seen).max()
    if not is_affine or sorted(source.tolist()) != [0, 1, 2]:
        return None
    # Least squares leaves noise in the eighth digit; a mean that is a whole number is one again.
    mean = np.round(-coefficients[3] / scale, 4)
    return _Normalisation(source, scale, mean)


def _tidy(model: onnx.ModelProto) -> None:
    """Remove what a bundle must not carry (source paths, traces) and name everything in order.

    Every inner name has a dot, which no task's name can have: they never meet.
    """
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]
    model.producer_name, model.producer_version = "transom", ""
    model.graph.name = "transom"
    model.graph.doc_string = ""
    for value in [*model.graph.input, *model.graph.output, *model.graph.initializer]:
        value.doc_string = ""
        del value.metadata_props[:]
    for number, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{number}"
        node.doc_string = ""
        del node.metadata_props[:]
    _rename(model)


def _rename(model: onnx.ModelProto) -> None:
    outputs = {value.name: value.name.removeprefix(_OUTPUT) for value in model.graph.output}
    inner = [v.name for v in model.graph.initializer]
    inner += [name for node in model.graph.node for name in node.output]
    names = {name: name if "." in name else f"value.{i}" for i, name in enumerate(inner)}
    names |= outputs
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in [*model.graph.initializer, *model.graph.output]:
        value.name = names[value.name]


def _initializers(model: onnx.ModelProto) -> dict[str, npt.NDArray[np.generic]]:
    return {value.name: numpy_helper.to_array(value) for value in model.graph.initializer}


def _replace_weight(
    model: onnx.ModelProto, node: int, position: int, values: npt.NDArray[np.generic]
) -> None:
    """Give one node its own weight; another reader of the old one keeps it."""
    old = model.graph.node[node].input[position]
    readers = sum(list(other.input).count(old) for other in model.graph.node)
    name = old if readers == 1 else f"{old}_of_{model.graph.node[node].name or node}"
    if readers == 1:
        kept = [value for value in model.graph.initializer if value.name != old]
        del model.graph.initializer[:]
        model.graph.initializer.extend(kept)
    model.graph.initializer.append(numpy_helper.from_array(values, name))
    model.graph.node[node].input[position] = name


def _drop_unused(model: onnx.ModelProto) -> None:
    used = {name for node in model.graph.node for name in node.input}
    kept = [value for value in model.graph.initializer if value.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
