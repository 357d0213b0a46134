"""What must come out alike on every processor: one JSON object on stdout.

Usage: python tools/device_check.py FOLDER

FOLDER holds `transom.toml`, `clip.mp4`, its pictures without loss as `clip.mkv`, and `crops.npy`,
(N, S, S, 3) uint8. Only what a device has is imported. See `tools/arm64.py`, which runs this here
and on aarch64.
"""

import hashlib
import json
import platform
import sys
import time
from itertools import islice
from pathlib import Path

import numpy as np
import onnxruntime

import edge_runtime.daemon  # noqa: F401 - that it can be imported is part of the check
from edge_runtime.classifier import Classifier
from edge_runtime.clips import read_file
from edge_runtime.replay import replay
from transom.bundle import Bundle, read_bundle
from transom.config import load_config
from transom.messages import Message, ZoneEvent, decode
from transom.session import session_entries
from transom.starter import STARTER, bundle_path, starter_keys

_BATCH = 4
_MEASURED = 10

Told = tuple[float, str, str]


def main(folder: Path) -> None:
    """Check the imports, the network, and one clip in two encodings."""
    parts: dict[str, float] = {}
    began = time.monotonic()
    bundle = read_bundle(bundle_path(STARTER), starter_keys())
    Classifier(bundle).check_goldens()
    parts["goldens"] = time.monotonic() - began
    logits = run(bundle, np.concatenate([bundle.goldens.crops, np.load(folder / "crops.npy")]))
    parts["logits"] = time.monotonic() - began
    same_pictures = messages(folder, "clip.mkv", bundle)
    parts["replay of equal pictures"] = time.monotonic() - began
    own_pictures = transitions(messages(folder, "clip.mp4", bundle))
    parts["replay of a video"] = time.monotonic() - began
    json.dump(
        {
            "machine": platform.machine(),
            "python": platform.python_version(),
            "onnxruntime": onnxruntime.__version__,
            "logits": {name: values.tolist() for name, values in logits.items()},
            "sha256": {
                name: hashlib.sha256(values.tobytes()).hexdigest()
                for name, values in logits.items()
            },
            "levels": {name: levels(folder / name) for name in ("clip.mkv", "clip.mp4")},
            "messages": same_pictures,
            "transitions": own_pictures,
            "seconds": parts,
        },
        sys.stdout,
    )


def run(bundle: Bundle, crops: np.ndarray) -> dict[str, np.ndarray]:
    """Return the raw outputs of the network, set up as in the daemon."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    for key, value in session_entries().items():
        options.add_session_config_entry(key, value)
    session = onnxruntime.InferenceSession(
        bundle.model, options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    found = [
        session.run(names, {"image": crops[start : start + _BATCH]})
        for start in range(0, len(crops), _BATCH)
    ]
    return {name: np.concatenate([part[i] for part in found]) for i, name in enumerate(names)}


def levels(clip: Path) -> list[float]:
    """Return how bright a clip's first pictures are: the mean of blue, green, red, 0 to 255."""
    pictures = islice(read_file(clip), _MEASURED)
    means = [picture.image.mean(axis=(0, 1), dtype=np.float64) for picture in pictures]
    found: list[float] = np.mean(means, axis=0).tolist()
    return found


def messages(folder: Path, clip: str, bundle: Bundle) -> list[Told]:
    """Return every message of a clip's replay: second of the clip, topic, payload."""
    found: list[Told] = []

    def tell(clip_s: float, message: Message) -> None:
        found.append((round(clip_s, 3), message.topic, message.payload.decode()))

    config = load_config(folder / "transom.toml")
    replay(config, bundle, {config.cameras[0].name: folder / clip}, tell)
    return found


def transitions(told: list[Told]) -> list[tuple[float, str, str, str]]:
    """Return (second of the clip, topic, type, state) of every event among messages."""
    events = [item for item in told if item[1].endswith("/event")]
    read = [decode(payload.encode(), ZoneEvent, topic) for _, topic, payload in events]
    return [
        (clip_s, topic, event.event_type, event.state)
        for (clip_s, topic, _), event in zip(events, read, strict=True)
    ]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
