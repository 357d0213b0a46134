"""Quantisation-aware training: the INT8 graph trained on, with its rounding in the loop.

The graph that static quantisation made is rebuilt in torch, node by node: where it quantises a
tensor stands a module that rounds as INT8 does and lets the gradient through. It learns to answer
as the float32 network did, on pictures alone, without labels; weights, biases and the steps of the
activations move. What was learnt is written back into the same graph, which is therefore fused by
onnxruntime exactly as before, and takes bytes, and keeps its heads in float.

References:
    Jacob et al., Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference, CVPR 2018.
"""

from collections.abc import Callable, Mapping
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
import torch
from msgspec import Meta
from onnx import numpy_helper
from torch import nn
from torch.nn import functional

from export.exact import make_sums_exact
from export.graph import EMBEDDING, IMAGE
from export.rounded_layers import LearntBias, RoundedActivation, RoundedWeight
from export.torch_operators import OPERATORS
from train.distill import divergence
from transom.crop import Image
from transom.errors import ExportError
from transom.tasks import TaskSet

Floats = npt.NDArray[np.float32]
Answers = Mapping[str, Floats]

_KEPT_ASIDE = 10


class FineTuning(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an INT8 graph is trained on.

    Attributes:
        epochs: Passes over the crops.
        images: How many training crops, at most.
        batch: Crops a step.
        learning_rate: Largest rate of weights, as a share of the largest that reads into the same
            output channel, and of biases, as a share of themselves; it falls along a cosine.
        step_rate: Largest rate of the activations' steps, as a share of their own size.
        seed: Of the order.
    """

    epochs: Annotated[int, Meta(ge=1, le=1000)] = 3
    images: Annotated[int, Meta(ge=1)] = 2048
    batch: Annotated[int, Meta(ge=1, le=1024)] = 16
    learning_rate: Annotated[float, Meta(gt=0.0)] = 1e-4
    step_rate: Annotated[float, Meta(gt=0.0)] = 1e-2
    seed: int = 0


class RoundedNetwork(nn.Module):
    """A QDQ graph as a torch module.

    Args:
        model: What `export.quantize.quantize` returned.

    Raises:
        ExportError: The graph has an operator that cannot be trained through here.
    """

    def __init__(self, model: bytes) -> None:
        super().__init__()
        self.proto = onnx.load_from_string(model)
        graph = self.proto.graph
        self._constants = {v.name: numpy_helper.to_array(v) for v in graph.initializer}
        self._outputs = [value.name for value in graph.output]
        self.rounders = nn.ModuleDict()
        self.weights = nn.ModuleDict()
        self.biases = nn.ModuleDict()
        self._fixed = {
            name: torch.tensor(value)
            for name, value in self._constants.items()
            if value.dtype in (np.float32, np.int64)
        }
        self._steps: list[Callable[[dict[str, torch.Tensor]], None]] = []
        for node in graph.node:
            self._add(node)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Map uint8 (N, S, S, 3) to every output of the graph, by name."""
        values: dict[str, torch.Tensor] = {IMAGE: image, **self._fixed}
        for step in self._steps:
            step(values)
        return {name: values[name] for name in self._outputs}

    def parameter_groups(self, settings: FineTuning) -> list[dict[str, object]]:
        """Return optimiser groups."""
        weights = [*self.weights.parameters(), *self.biases.parameters()]
        return [
            {"params": weights, "lr": settings.learning_rate},
            {"params": list(self.rounders.parameters()), "lr": settings.step_rate},
        ]

    def graph(self) -> bytes:
        """Return the QDQ graph with what has been learnt written back."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        learnt: dict[str, npt.NDArray[np.generic]] = {}
        for node in proto.graph.node:
            key = _key(node.input[1]) if len(node.input) > 1 else ""
            if node.op_type == "QuantizeLinear" and key in self.rounders:
                learnt[node.input[1]] = self._rounder(key).learnt_step()
            if node.op_type == "DequantizeLinear" and _key(node.input[0]) in self.weights:
                weight = self._weight(_key(node.input[0]))
                learnt[node.input[0]] = weight.integers()
                learnt[node.input[1]] = weight.steps().numpy()
        learnt |= self._integer_biases(learnt)
        for value in proto.graph.initializer:
            if value.name in learnt:
                value.CopyFrom(numpy_helper.from_array(learnt[value.name], value.name))
        return bytes(proto.SerializeToString(deterministic=True))

    def _add(self, node: onnx.NodeProto) -> None:
        if node.op_type == "QuantizeLinear":
            self._add_rounder(node)
        elif node.op_type == "DequantizeLinear":
            self._add_dequantiser(node)
        elif node.op_type in OPERATORS:
            operator = OPERATORS[node.op_type]
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}

            def run(values: dict[str, torch.Tensor]) -> None:
                inputs = [values[name] if name else None for name in node.input]
                values[node.output[0]] = operator(attributes, *inputs)

            self._steps.append(run)
        else:
            raise ExportError(f"cannot train through {node.op_type}")

    def _add_rounder(self, node: onnx.NodeProto) -> None:
        source, step, zero_point = node.input
        # Tensors that share a step (behind a reshape, a concatenation) go on sharing it.
        key = _key(step)
        if key not in self.rounders:
            self.rounders[key] = RoundedActivation(
                self._constants[step], self._constants[zero_point]
            )

        def run(values: dict[str, torch.Tensor]) -> None:
            values[node.output[0]] = self.rounders[key](values[source])

        self._steps.append(run)

    def _add_dequantiser(self, node: onnx.NodeProto) -> None:
        source, step, zero_point = node.input
        stored = self._constants.get(source)
        if stored is None:
            self._steps.append(self._behind_rounder(node))
            return
        scale = self._constants[step].astype(np.float32)
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        if scale.ndim:
            scale = scale.reshape([-1 if i == axis else 1 for i in range(stored.ndim)])
        value = stored.astype(np.float32) * scale
        key = _key(source)
        if stored.dtype == np.int8 and scale.ndim and axis == 0:
            self.weights[key] = RoundedWeight(value, scale.reshape(-1))

            def weigh(values: dict[str, torch.Tensor]) -> None:
                values[node.output[0]] = self.weights[key]()

            self._steps.append(weigh)
        elif stored.dtype == np.int32:
            self.biases[key] = LearntBias(value)

            def bias(values: dict[str, torch.Tensor]) -> None:
                values[node.output[0]] = self.biases[key]()

            self._steps.append(bias)
        else:
            self._fixed[node.output[0]] = torch.tensor(
                (stored.astype(np.float32) - self._constants[zero_point]) * scale
            )

    def _behind_rounder(self, node: onnx.NodeProto) -> Callable[[dict[str, torch.Tensor]], None]:
        """The rounder gave the dequantised value already; the image's bytes are still bytes."""
        source, step, zero_point = node.input
        scale = float(self._constants[step])
        zero = float(self._constants[zero_point])

        def run(values: dict[str, torch.Tensor]) -> None:
            value = values[source]
            is_bytes = not value.is_floating_point()
            values[node.output[0]] = (value.float() - zero) * scale if is_bytes else value

        return run

    def _integer_biases(
        self, learnt: Mapping[str, npt.NDArray[np.generic]]
    ) -> dict[str, npt.NDArray[np.generic]]:
        """Return biases, and their steps: step of the input times step of the weight."""
        makers = {name: node for node in self.proto.graph.node for name in node.output}
        found: dict[str, npt.NDArray[np.generic]] = {}
        for node in self.proto.graph.node:
            if node.op_type not in ("Conv", "Gemm") or len(node.input) < 3:
                continue
            readers = [makers.get(name) for name in node.input[:3]]
            if any(r is None or r.op_type != "DequantizeLinear" for r in readers):
                continue
            data, weight, bias = (r.input for r in readers if r is not None)
            if _key(bias[0]) not in self.biases:
                continue
            steps = [learnt.get(name, self._constants.get(name)) for name in (data[1], weight[1])]
            step = np.asarray(steps[0], np.float32) * np.asarray(steps[1], np.float32)
            value = self.biases[_key(bias[0])]().detach().numpy().astype(np.float64) / step
            found[bias[0]] = np.round(value).clip(-(2**31), 2**31 - 1).astype(np.int32)
            found[bias[1]] = step.reshape(self._constants[bias[1]].shape)
        return found

    def _rounder(self, key: str) -> RoundedActivation:
        rounder = self.rounders[key]
        assert isinstance(rounder, RoundedActivation)  # noqa: S101 - a ModuleDict has no types
        return rounder

    def _weight(self, key: str) -> RoundedWeight:
        weight = self.weights[key]
        assert isinstance(weight, RoundedWeight)  # noqa: S101 - a ModuleDict has no types
        return weight


def train_on(
    model: bytes, tasks: TaskSet, crops: Image, answers: Answers, settings: FineTuning
) -> bytes:
    """Return an INT8 graph that has learnt to answer as the float32 network does.

    A tenth of the crops is kept aside; the epoch after which it is answered most alike is taken,
    or the graph as it was.

    Args:
        model: What `export.quantize.quantize` returned.
        tasks: Its heads.
        crops: (N, S, S, 3) uint8 BGR; labels are not needed.
        answers: By output (tasks and embedding) what float32 says of them, (N, C) or (N, D).
        settings: How long and how fast.

    Raises:
        ExportError: The graph has an operator that cannot be trained through here.
    """
    network = RoundedNetwork(model)
    optimiser = torch.optim.Adam(network.parameter_groups(settings))
    random = np.random.default_rng(settings.seed)
    order = random.permutation(len(crops))
    kept, rows = np.split(order, [max(1, len(crops) // _KEPT_ASIDE)])
    steps = settings.epochs * max(1, -(-len(rows) // settings.batch))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)

    def distance(some: npt.NDArray[np.int64]) -> torch.Tensor:
        truth = {name: torch.tensor(values[some]) for name, values in answers.items()}
        return _distance(network(torch.tensor(crops[some])), truth, tasks)

    best, least = network.graph(), _mean_distance(distance, kept, settings.batch)
    for _ in range(settings.epochs):
        order = random.permutation(rows)
        for start in range(0, len(rows), settings.batch):
            loss = distance(order[start : start + settings.batch])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
        found = _mean_distance(distance, kept, settings.batch)
        if found < least:
            best, least = network.graph(), found
    return make_sums_exact(best)


def _mean_distance(
    distance: Callable[[npt.NDArray[np.int64]], torch.Tensor],
    rows: npt.NDArray[np.int64],
    batch: int,
) -> float:
    with torch.no_grad():
        parts = [
            (float(distance(rows[start : start + batch])), len(rows[start : start + batch]))
            for start in range(0, len(rows), batch)
        ]
    return sum(value * count for value, count in parts) / len(rows)


def _distance(
    said: Mapping[str, torch.Tensor], truth: Mapping[str, torch.Tensor], tasks: TaskSet
) -> torch.Tensor:
    """How far answers and embeddings are from float32's; each embedding as a share of its own."""
    loss = torch.stack([divergence(said[name], truth[name]).mean() for name in tasks.names]).sum()
    size = truth[EMBEDDING].square().mean().clamp(min=1e-12)
    return loss + functional.mse_loss(said[EMBEDDING], truth[EMBEDDING]) / size


def _key(name: str) -> str:
    return name.replace(".", "/")  # torch's dictionaries of modules allow no dots
