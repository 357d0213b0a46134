"""Where a network's time goes in INT8 and in float32, by kind of operator.

    python -m benchmarks.operator_times                    # the starter
    python -m benchmarks.operator_times --network lite0    # EfficientNet-Lite0, three tasks

Both precisions as onnxruntime profiles them, one crop, one thread, a block of calls each in turn.
The time of an operator is the median over its calls: whatever else the machine did between two
operators is not in it. Convolutions are told apart by their filters, because in 8 bits they gain
differently; multiply-accumulates stand beside them.
"""

import argparse
import json
import math
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from benchmarks.peer_files import NETWORKS, write_networks
from benchmarks.peer_runtimes import CROPS, FLOAT32, INT8
from transom.session import session_entries
from transom.starter import STARTER

_BLOCKS, _CALLS = 6, 60
_CONVOLUTIONS = ("Conv", "FusedConv", "QLinearConv")
_KINDS = ("first 3 x 3", "1 x 1", "depthwise 3 x 3", "depthwise 5 x 5", "add", "other")


def profile(model: bytes, crop: np.ndarray, calls: int) -> dict[str, list[float]]:
    """Return by kind of operator and its node the durations of its calls, microseconds."""
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        for key, value in session_entries().items():
            options.add_session_config_entry(key, value)
        optimised = Path(folder, "optimised.onnx")
        options.optimized_model_filepath = str(optimised)
        options.log_severity_level = 3
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder, "profile"))
        session = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])
        for _ in range(calls):
            session.run(None, {"image": crop})
        events = json.loads(Path(session.end_profiling()).read_text("utf-8"))
        kinds = kinds_of(onnx.load(optimised))
    found = defaultdict(list)
    for event in events:
        node = event["name"].removesuffix("_kernel_time")
        if event["cat"] == "Node" and node in kinds:
            found[f"{kinds[node]}|{node}"].append(float(event["dur"]))
    return found


def kinds_of(model: onnx.ModelProto) -> dict[str, str]:
    """Return by node what kind of operator it is, one of `_KINDS`."""
    return {node.name: _kind(node) for node in model.graph.node}


def _kind(node: onnx.NodeProto) -> str:
    if node.op_type not in _CONVOLUTIONS:
        return "add" if "Add" in node.op_type else "other"
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    side = attributes["kernel_shape"][0]
    if attributes.get("group", 1) > 1:
        return f"depthwise {side} x {side}"
    return "1 x 1" if side == 1 else "first 3 x 3"


def multiplications(model: bytes) -> dict[str, int]:
    """Return by kind of operator the multiply-accumulates of one crop, of a float32 graph."""
    proto = onnx.shape_inference.infer_shapes(onnx.load_from_string(model))
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in proto.graph.value_info
    }
    weights = {value.name: list(value.dims) for value in proto.graph.initializer}
    found: dict[str, int] = defaultdict(int)
    for node in proto.graph.node:
        if node.op_type == "Conv":
            _, _, height, width = shapes[node.output[0]]
            found[_kind(node)] += math.prod(weights[node.input[1]]) * height * width
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--network", choices=NETWORKS, default=STARTER)
    parser.add_argument("--files", type=Path, default=Path("build/peer-files"))
    arguments = parser.parse_args()
    folder = arguments.files / arguments.network
    write_networks(arguments.network, folder)
    models = {name: (folder / name).read_bytes() for name in (INT8, FLOAT32)}
    crop = np.load(folder / CROPS)[:1]
    calls: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in models}
    for _ in range(_BLOCKS):
        for name, model in models.items():
            for node, durations in profile(model, crop, _CALLS).items():
                calls[name][node] += durations
    print_table({k: by_kind(v) for k, v in calls.items()}, multiplications(models[FLOAT32]))


def by_kind(calls: dict[str, list[float]]) -> dict[str, float]:
    """Return by kind the sum of its operators' medians, milliseconds."""
    found = dict.fromkeys(_KINDS, 0.0)
    for name, durations in calls.items():
        found[name.partition("|")[0]] += float(np.median(durations)) / 1000
    return found


def print_table(times: dict[str, dict[str, float]], macs: dict[str, int]) -> None:
    """Print INT8 beside float32."""
    int8, float32 = times[INT8], times[FLOAT32]
    print("| operators | MMAC | INT8 ms | of all | float32 ms | times faster |")
    print("|---|---:|---:|---:|---:|---:|")
    for kind in _KINDS:
        ratio = f"{float32[kind] / int8[kind]:.2f}" if int8[kind] and float32[kind] else ""
        print(
            f"| {kind} | {macs.get(kind, 0) / 1e6:.1f} | {int8[kind]:.3f} "
            f"| {100 * int8[kind] / sum(int8.values()):.0f} % | {float32[kind]:.3f} | {ratio} |"
        )
    whole = sum(float32.values()) / sum(int8.values())
    print(
        f"| all | {sum(macs.values()) / 1e6:.1f} | {sum(int8.values()):.3f} | 100 % "
        f"| {sum(float32.values()):.3f} | {whole:.2f} |"
    )


if __name__ == "__main__":
    main()
