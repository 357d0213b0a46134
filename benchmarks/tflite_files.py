"""Write networks as TensorFlow Lite files: ours, layer for layer, and Frigate's.

    python -m benchmarks.tflite_files ours FOLDER       # from float32.onnx and crops.npy in it
    python -m benchmarks.tflite_files frigate FOLDER

A step of `benchmarks.peers`, in an interpreter that has TensorFlow: only its converter writes what
TensorFlow Lite reads. Both are quantised as its guide says for integers only: activations int8,
weights int8 with one scale for each output channel, ranges from crops; the input is uint8.

Frigate's network has random weights: what a multiplication takes does not depend on them.

References:
    https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/post_training_integer_quant
    Frigate, `frigate/data_processing/post/` and `frigate/embeddings/`: MobileNetV2, width 0.35, 224
    pixels, mean over places, dense 128 with ReLU, dropout, dense softmax.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tensorflow as tf
from onnx import helper, numpy_helper

from benchmarks.peer_runtimes import CROPS, FLOAT32, FRIGATE, FRIGATE_SIZE, TFLITE, TFLITE_INT8

_CLASSES = 2


def write_ours(folder: Path) -> None:
    """Write the network of `float32.onnx` in float32 and in INT8, calibrated with `crops.npy`."""
    graph = onnx.load(folder / FLOAT32).graph
    crops = np.load(folder / CROPS).astype(np.float32)
    module = tf.Module()
    module.constants = {v.name: numpy_helper.to_array(v) for v in graph.initializer}
    module.run = tf.function(
        lambda image: _run(graph, module.constants, image),
        input_signature=[tf.TensorSpec((1, *crops.shape[1:]), tf.float32, name="image")],
    )
    signature = module.run.get_concrete_function()

    def converter() -> Any:
        return tf.lite.TFLiteConverter.from_concrete_functions([signature], module)

    (folder / TFLITE).write_bytes(converter().convert())
    (folder / TFLITE_INT8).write_bytes(_in_integers(converter(), crops, tf.float32))


def write_frigate(folder: Path) -> None:
    """Write Frigate's network for `_CLASSES` states."""
    tf.keras.utils.set_random_seed(0)
    trunk = tf.keras.applications.MobileNetV2(
        (FRIGATE_SIZE, FRIGATE_SIZE, 3), alpha=0.35, include_top=False, weights=None
    )
    network = tf.keras.Sequential(
        [
            trunk,
            tf.keras.layers.GlobalAveragePooling2D(),
            tf.keras.layers.Dense(128, activation="relu"),
            tf.keras.layers.Dropout(0.3),
            tf.keras.layers.Dense(_CLASSES, activation="softmax"),
        ]
    )
    shape = (8, FRIGATE_SIZE, FRIGATE_SIZE, 3)
    pictures = np.random.default_rng(0).uniform(0.0, 1.0, shape).astype(np.float32)
    converter = tf.lite.TFLiteConverter.from_keras_model(network)
    (folder / FRIGATE).write_bytes(_in_integers(converter, pictures, tf.uint8))


def _in_integers(converter: Any, pictures: np.ndarray, answers: Any) -> bytes:
    """Convert with static ranges; pictures, float32 (N, H, W, 3), show them."""

    def shown() -> Iterator[list[np.ndarray]]:
        for picture in pictures:
            yield [picture[None]]

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = shown
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.uint8
    converter.inference_output_type = answers
    return bytes(converter.convert())


def _run(graph: onnx.GraphProto, constants: dict[str, np.ndarray], image: Any) -> dict[str, Any]:
    """Say a graph of `export.graph.export_graph` in TensorFlow's words, channels last."""
    values: dict[str, Any] = dict(constants) | {graph.input[0].name: image}
    for node in graph.node:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        inputs = [values[name] for name in node.input]
        values[node.output[0]] = _OPERATORS[node.op_type](inputs, attributes)
    return {output.name: values[output.name] for output in graph.output}


def _convolve(inputs: list[Any], attributes: dict[str, Any]) -> Any:
    image, weights, *bias = inputs
    steps, edges, groups = attributes["strides"], attributes["pads"], attributes["group"]
    padding = _padding(image.shape[1], weights.shape[2], steps[0], edges)
    filters = np.transpose(weights, (2, 3, 1, 0))
    if groups == 1:
        return tf.nn.conv2d(image, filters, steps, padding) + sum(bias)
    if groups != image.shape[3] or weights.shape[0] != groups:
        raise ValueError(f"a convolution has {groups} groups of {image.shape[3]} channels")
    filters = np.transpose(filters, (0, 1, 3, 2))
    return tf.nn.depthwise_conv2d(image, filters, [1, *steps, 1], padding) + sum(bias)


def _padding(side: int, kernel: int, step: int, edges: list[int]) -> str:
    """Return TensorFlow's word for a padding [top, left, bottom, right] of a square picture."""
    if not any(edges):
        return "VALID"
    total = max((-(-side // step) - 1) * step + kernel - side, 0)
    expected = [total // 2] * 2 + [total - total // 2] * 2
    if list(edges) != expected:
        raise ValueError(f"padding must be {expected} to be TensorFlow's SAME, is {list(edges)}")
    return "SAME"


def _clip(inputs: list[Any], _attributes: dict[str, Any]) -> Any:
    image, least, most = inputs
    if (float(least), float(most)) != (0.0, 6.0):
        raise ValueError(f"a Clip must be 0 to 6, is {float(least):g} to {float(most):g}")
    return tf.nn.relu6(image)


def _multiply(inputs: list[Any], _attributes: dict[str, Any]) -> Any:
    return tf.linalg.matmul(inputs[0], inputs[1], transpose_b=True) + inputs[2]


def _subtract(inputs: list[Any], _attributes: dict[str, Any]) -> Any:
    return inputs[0] - np.reshape(inputs[1], -1)  # of each channel, (3, 1, 1) in ONNX


_OPERATORS: dict[str, Callable[[list[Any], dict[str, Any]], Any]] = {
    "Transpose": lambda inputs, _: inputs[0],
    "Cast": lambda inputs, _: inputs[0],
    "Sub": _subtract,
    "Conv": _convolve,
    "Clip": _clip,
    "Relu": lambda inputs, _: tf.nn.relu(inputs[0]),
    "Add": lambda inputs, _: inputs[0] + inputs[1],
    "GlobalAveragePool": lambda inputs, _: tf.reduce_mean(inputs[0], (1, 2), keepdims=True),
    "Reshape": lambda inputs, _: tf.reshape(inputs[0], (1, -1)),
    "Gemm": _multiply,
}


if __name__ == "__main__":
    {"ours": write_ours, "frigate": write_frigate}[sys.argv[1]](Path(sys.argv[2]))
