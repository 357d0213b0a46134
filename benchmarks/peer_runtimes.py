"""One runtime, in a process of its own, that classifies one crop when it is told to.

    python -m benchmarks.peer_runtimes NAME FOLDER THREADS

A step of `benchmarks.peers`. Each line on its standard input is a number of calls; each line of its
answer says how long one took. What it imports is its runtime's alone, so that it can run in an
interpreter that has neither Transom's libraries nor those of the other runtimes.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

FLOAT32, INT8, PIXELS = "float32.onnx", "int8.onnx", "pixels.onnx"
TFLITE, TFLITE_INT8, FRIGATE = "float32.tflite", "int8.tflite", "frigate.tflite"
NCNN = "network.ncnn"
CROPS, NETWORK, FRAME = "crops.npy", "network.json", "frame.npy"
FRIGATE_SIZE = 224
BOX = (0.36, 0.17, 0.64, 0.93)
"""The door in the frame, left, top, right, bottom, in fractions of it."""

Answer = dict[str, np.ndarray]
Classify = Callable[[np.ndarray], Answer]
"""From a crop, uint8 (S, S, 3) BGR, to the outputs by name, float32 (1, C)."""


class Runtime(NamedTuple):
    """How one runtime is shown.

    Attributes:
        title: Its name in the table.
        open: From the folder of the files and a number of threads to what classifies.
        is_int8: Whether it computes in 8 bits, so that its answers are near ours, not ours.
        package: What to install for it; None where Transom itself needs it.
    """

    title: str
    open: Callable[[Path, int], Classify]
    is_int8: bool = False
    package: str | None = None


def open_onnx(file: str) -> Callable[[Path, int], Classify]:
    """Return what opens a file in onnxruntime as the device does."""

    def opened(folder: Path, threads: int) -> Classify:
        import onnxruntime

        from transom.session import open_session

        session = open_session(onnxruntime, (folder / file).read_bytes(), threads=threads)
        names = [output.name for output in session.get_outputs()]
        return lambda crop: dict(zip(names, session.run(None, {"image": crop[None]}), strict=True))

    return opened


def open_torch(is_compiled: bool) -> Callable[[Path, int], Classify]:
    """Return what opens the network in PyTorch, channels last, without gradients."""

    def opened(folder: Path, threads: int) -> Classify:
        import torch

        from benchmarks.peer_files import load_network
        from train.network import to_image

        torch.set_num_threads(threads)
        run, _ = load_network(json.loads((folder / NETWORK).read_text("utf-8"))["name"])
        if is_compiled:
            # As one graph: as it is written, it would be compiled layer by layer, up to a limit.
            example = to_image(torch.from_numpy(np.load(folder / CROPS)[:1]))
            with torch.no_grad():
                run = torch.compile(torch.export.export(run, (example,)).module())

        @torch.inference_mode()
        def classify(crop: np.ndarray) -> Answer:
            logits, embedding = run(to_image(torch.from_numpy(crop[None])))
            return {name: value.numpy() for name, value in logits.items()} | {
                "embedding": embedding.numpy()
            }

        return classify

    return opened


def open_tflite(file: str) -> Callable[[Path, int], Classify]:
    """Return what opens a file in TensorFlow Lite."""

    def opened(folder: Path, threads: int) -> Classify:
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_path=str(folder / file), num_threads=threads)
        interpreter.allocate_tensors()
        signature = interpreter.get_signature_runner()
        (given,) = signature.get_input_details().values()
        answers = {k: v["index"] for k, v in signature.get_output_details().items()}

        def classify(crop: np.ndarray) -> Answer:
            interpreter.set_tensor(given["index"], crop[None].astype(given["dtype"], copy=False))
            interpreter.invoke()
            return {name: interpreter.get_tensor(index) for name, index in answers.items()}

        return classify

    return opened


def open_openvino(file: str) -> Callable[[Path, int], Classify]:
    """Return what opens a file in OpenVINO, asked for low latency."""

    def opened(folder: Path, threads: int) -> Classify:
        import openvino

        core = openvino.Core()
        model = core.read_model(folder / file)
        shape = model.inputs[0].partial_shape
        shape[0] = 1
        model.reshape(shape)
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",  # by itself it computes in bfloat16 where it can
        }
        compiled = core.compile_model(model, "CPU", settings)
        request = compiled.create_infer_request()
        names = [output.get_any_name() for output in compiled.outputs]

        def classify(crop: np.ndarray) -> Answer:
            request.infer([crop[None]])
            values = [request.get_output_tensor(i).data for i in range(len(names))]
            return dict(zip(names, values, strict=True))

        return classify

    return opened


def open_opencv(folder: Path, threads: int) -> Classify:
    """Open the network in OpenCV's own engine, which is fed floating-point pixels."""
    import cv2

    cv2.setNumThreads(threads)
    network = cv2.dnn.readNetFromONNX(str(folder / PIXELS))
    names = json.loads((folder / NETWORK).read_text("utf-8"))["outputs"]

    def classify(crop: np.ndarray) -> Answer:
        network.setInput(cv2.dnn.blobFromImage(crop))
        return dict(zip(names, network.forward(names), strict=True))

    return classify


def open_ncnn(folder: Path, threads: int) -> Classify:
    """Open the network in ncnn with its own defaults for a CPU."""
    import ncnn

    network = ncnn.Net()
    network.opt.num_threads = threads
    network.load_param(str(folder / f"{NCNN}.param"))
    network.load_model(str(folder / f"{NCNN}.bin"))
    names = json.loads((folder / NETWORK).read_text("utf-8"))["outputs"]

    def classify(crop: np.ndarray) -> Answer:
        height, width = crop.shape[:2]
        pixels = ncnn.Mat.from_pixels(crop, ncnn.Mat.PixelType.PIXEL_BGR, width, height)
        with network.create_extractor() as extractor:
            extractor.input("in0", pixels)
            found = [np.array(extractor.extract(f"out{i}")[1]) for i in range(len(names))]
        return {name: value.reshape(1, -1) for name, value in zip(names, found, strict=True)}

    return classify


def open_job(file: Path | None) -> Callable[[Path, int], Classify]:
    """Return Transom's job with a bundle, None = the starter.

    It is a zone of a frame as OpenCV gives it, to predictions.
    """

    def opened(folder: Path, threads: int) -> Classify:
        from edge_runtime.classifier import Classifier
        from transom.bundle import read_bundle
        from transom.crop import crop_zone
        from transom.geometry import Zone
        from transom.starter import STARTER, bundle_path

        bundle = read_bundle(file or bundle_path(STARTER), None)
        classifier, spec = Classifier(bundle, threads=threads), bundle.manifest.input
        left, top, right, bottom = BOX
        zone = Zone(((left, top), (right, top), (right, bottom), (left, bottom)))
        frame = np.load(folder / FRAME)

        def classify(_crop: np.ndarray) -> Answer:
            crop = crop_zone(frame, zone, spec.size, spec.margin)
            found = classifier.classify(crop[None]).predictions
            return {name: prediction.probabilities for name, prediction in found.items()}

        return classify

    return opened


def open_frigate(is_planar: bool) -> Callable[[Path, int], Classify]:
    """Return Frigate's job: from its planar frame, or from one that is RGB already."""

    def opened(folder: Path, threads: int) -> Classify:
        import cv2

        cv2.setNumThreads(threads)
        look = frigate_look(folder / FRIGATE, threads)
        frame = np.load(folder / FRAME)
        planar = cv2.cvtColor(frame, cv2.COLOR_BGR2YUV_I420)
        rgb = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)

        def classify(_crop: np.ndarray) -> Answer:
            picture = cv2.cvtColor(planar, cv2.COLOR_YUV2RGB_I420) if is_planar else rgb
            return {"state": look(picture)[None]}

        return classify

    return opened


def frigate_look(file: Path, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return what Frigate does with a frame, RGB uint8 (H, W, 3): to probabilities, (C,).

    References:
        `CustomStateClassificationProcessor.process_frame` in
        https://github.com/blakeblackshear/frigate: the box of the frame, squashed to 224 pixels
        with OpenCV's default, fed as bytes, the answer divided by its sum.
    """
    import cv2
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(file), num_threads=threads)
    interpreter.allocate_tensors()
    given = interpreter.get_input_details()[0]["index"]
    answer = interpreter.get_output_details()[0]["index"]

    def look(frame: np.ndarray) -> np.ndarray:
        height, width = frame.shape[:2]
        left, right = int(BOX[0] * width), int(BOX[2] * width)
        top, bottom = int(BOX[1] * height), int(BOX[3] * height)
        squashed = cv2.resize(frame[top:bottom, left:right], (FRIGATE_SIZE, FRIGATE_SIZE))
        interpreter.set_tensor(given, squashed[None])
        interpreter.invoke()
        found = interpreter.get_tensor(answer)[0]
        return found / found.sum()

    return look


NETWORKS = {
    "ours_int8": Runtime("Transom: onnxruntime, INT8", open_onnx(INT8), is_int8=True),
    "ours_float32": Runtime("onnxruntime, float32", open_onnx(FLOAT32)),
    "tflite_int8": Runtime(
        "TensorFlow Lite, INT8", open_tflite(TFLITE_INT8), is_int8=True, package="ai-edge-litert"
    ),
    "tflite": Runtime("TensorFlow Lite, float32", open_tflite(TFLITE), package="ai-edge-litert"),
    "openvino_int8": Runtime(
        "OpenVINO, our INT8 file", open_openvino(INT8), is_int8=True, package="openvino"
    ),
    "openvino": Runtime("OpenVINO, float32", open_openvino(FLOAT32), package="openvino"),
    "ncnn": Runtime("ncnn", open_ncnn, package="ncnn pnnx"),
    "opencv": Runtime("OpenCV DNN, float32", open_opencv),
    "torch": Runtime("PyTorch, eager", open_torch(is_compiled=False)),
    "torch_compiled": Runtime("PyTorch, torch.compile", open_torch(is_compiled=True)),
}
"""One network in each."""

JOBS = {
    "job": Runtime("Transom: zone of a frame to predictions", open_job(None), is_int8=True),
    "frigate": Runtime(
        "Frigate: planar frame to probabilities",
        open_frigate(is_planar=True),
        is_int8=True,
        package="ai-edge-litert",
    ),
    "frigate_rgb": Runtime(
        "Frigate, its frame RGB already",
        open_frigate(is_planar=False),
        is_int8=True,
        package="ai-edge-litert",
    ),
}
"""One job, each side's own network and preprocessing."""


BUNDLE_JOB = "job of "
"""What a runtime's name begins with that is Transom's job with another bundle: its path follows."""


def runtime_named(name: str) -> Runtime:
    """Return the runtime of a name, of `NETWORKS`, of `JOBS` or of a bundle's file."""
    if name.startswith(BUNDLE_JOB):
        file = Path(name.removeprefix(BUNDLE_JOB))
        return Runtime(f"Transom: the same with {file.name}", open_job(file), is_int8=True)
    return (NETWORKS | JOBS)[name]


def serve(name: str, folder: Path, threads: int) -> None:
    """Open a runtime, say what it answers to each crop, then time calls as they are asked for."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries write to standard output
    crops = np.load(folder / CROPS)
    classify = runtime_named(name).open(folder, threads)
    found = [{k: v[0].tolist() for k, v in classify(crop).items()} for crop in crops]
    print(json.dumps(found), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(_time(classify, crops[0], int(line))), file=answers, flush=True)


def _time(classify: Classify, crop: np.ndarray, calls: int) -> dict[str, Any]:
    """Return the median duration of a call and the mean processor time, milliseconds."""
    classify(crop)  # the first after a pause pays for cold caches
    lasted = []
    cpu_s = time.process_time()
    for _ in range(calls):
        began_s = time.perf_counter()
        classify(crop)
        lasted.append(time.perf_counter() - began_s)
    cpu_s = time.process_time() - cpu_s
    return {"wall_ms": 1000 * statistics.median(lasted), "cpu_ms": 1000 * cpu_s / calls}


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
