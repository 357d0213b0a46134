"""The loop on real material: a clip that the network gets wrong, until it gets it right.

    python -m benchmarks.loop --data ../shared/data [--epochs 40]

The daemon (`transom run`, the starter, a real mosquitto on loopback) watches the real window clip,
of each state's time the first half only, the whole picture and one pane, and keeps for half a
minute what it is unsure of: once what looks the same. A script labels that through the page's own
API; it knows which frame a picture is by looking for the most similar one. Then `transom pull`,
`train` (from the starter; beside the camera's pictures one of each group of `doors`, so that it
does not forget the others), `export`, `deploy`, and the daemon serves what came of it.

Accuracy is of the frames of the second halves, which nobody was taught from: by the starter alone,
with the head that the device has learnt from the labels, by the bundle that was deployed, and by it
with the head, which is what the device does then. Each class counts alike. The frames are of one
window within ten seconds, so there is no interval: it shows that the loop works, not what to expect
of another window. With `--whole` all frames teach and all are judged: what it takes until the same
clip is right. Beside it, what the daemon says of the whole clip in its own time (`transom
replay`, without the head), as the share of time in which it is right.
"""

import argparse
import csv
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_runtime.classifier import Classifier
from edge_runtime.clock import Clock
from edge_runtime.samples import SampleStore
from edge_runtime.sampling import Sampling
from edge_runtime.seen import MARGIN, Seen
from tests.edge_runtime.broker import Broker, free_port
from transom.bundle import Bundle, read_bundle
from transom.config import Config, ZoneConfig, load_config
from transom.crop import crop_zone
from transom.dataset import read_dataset, write_dataset
from transom.preprocess import preprocess
from transom.signing import new_key
from transom.starter import bundle_path

COLLECT_S = 30.0
WAIT_S = 60.0
CLIP_FPS = 30
DEVICE = "bench-pi"
ZONES = {"whole": (0.0, 0.0, 1.0, 1.0), "pane": (11 / 32, 10 / 24, 14 / 32, 16 / 24)}

CONFIG = """
device = "{device}"
state_directory = "{folder}/state"
[mqtt]
host = "localhost"
port = {port}
[models]
store = "{folder}/models"
trusted_keys = "{folder}/trusted_keys"
[samples]
every_s = 1.0
random_per_day = 1440.0
pull = true
[page]
port = {page_port}
[updates]
shadow_decisions = 20
least_agreement = 0.0                # it must say something else than the one before
healthy_s = 2.0
[[cameras]]
name = "campus"
source = "file:{clip}"
loop = true
fps = 5
"""
ZONE = """
[[cameras.zones]]
name = "{name}"
device_class = "window"
polygon = {polygon}
correct = true
"""
RECIPE = """
epochs = {epochs}
[dataset_weights]
home = 0.6
others = 0.4
[augment]                            # the camera does not move
zoom = 0.9
shift = 0.03
brightness = 0.15
gamma = 0.35
cutout = 0.0
"""
OTHERS = {"train": 240, "val": 120}


class Clip:
    """The real clip, its states, and which frames teach.

    Args:
        data: Folder of the real data.
        is_whole: Whether all frames teach, and all are judged.
    """

    def __init__(self, data: Path, *, is_whole: bool) -> None:
        folder = data / "window_clip"
        spans = list(csv.DictReader((folder / "states.csv").read_text().splitlines()))
        self.path = folder / spans[0]["clip"]
        capture = cv2.VideoCapture(str(self.path))
        self.frames = []
        while (read := capture.read())[0]:
            self.frames.append(np.asarray(read[1], np.uint8))
        starts = [int(span["start_frame"]) for span in spans]
        ends = [*starts[1:], len(self.frames)]
        self.states: list[str] = []
        self.teaching: list[int] = []
        self.judging: list[int] = []
        for span, start, end in zip(spans, starts, ends, strict=True):
            middle = (start + end) // 2
            self.states += [span["state"]] * (end - start)
            self.teaching += range(start, end if is_whole else middle)
            self.judging += range(start if is_whole else middle, end)

    def write(self, path: Path, numbers: list[int]) -> None:
        """Write some of the frames as a clip."""
        height, width = self.frames[0].shape[:2]
        command = ["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "bgr24"]
        command += ["-s", f"{width}x{height}", "-r", str(CLIP_FPS), "-i", "-"]
        command += ["-c:v", "libx264", "-crf", "12", "-g", "30", "-pix_fmt", "yuv420p", str(path)]
        pixels = b"".join(self.frames[number].tobytes() for number in numbers)
        subprocess.run(command, input=pixels, check=True)

    def most_similar(self, picture: np.ndarray, box: tuple[int, int, int, int]) -> int:
        """Return which frame that teaches a kept picture is, by the part of it that was kept."""
        left, top, right, bottom = box
        size = (picture.shape[1], picture.shape[0])

        def apart(number: int) -> float:
            part = self.frames[number][top:bottom, left:right]
            return float(cv2.absdiff(cv2.resize(part, size), picture).mean())

        return min(self.teaching, key=apart)


class _Page:
    """A daemon's page, asked by a script."""

    def __init__(self, port: int, token: str) -> None:
        self._root, self._token = f"http://127.0.0.1:{port}/api/", token

    def ask(self, path: str, body: object = None) -> Any:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._root + path, data, headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            said = answer.read()
        return said if answer.headers["Content-Type"] == "image/jpeg" else json.loads(said)

    def samples(self, zone: str) -> list[Any]:
        clusters = self.ask(f"samples?place={zone}")["clusters"]
        return [sample for cluster in clusters for sample in cluster["samples"]]


def transom(*arguments: object) -> str:
    """Type a command; return what it printed."""
    command = [sys.executable, "-m", "transom", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


@contextmanager
def daemon(config_file: Path) -> Iterator[None]:
    with (config_file.parent / "daemon.log").open("wb") as log:
        command = [sys.executable, "-m", "transom", "run", "--config", str(config_file)]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def wait_for(what: str, found: Any, within_s: float = WAIT_S) -> Any:
    until_s = time.monotonic() + within_s
    while time.monotonic() < until_s:
        try:
            if outcome := found():
                return outcome
        except OSError:
            pass  # the page is not there yet
        time.sleep(0.2)
    sys.exit(f"{what}: not within {within_s:.0f} s")


def shown_box(clip: Clip, zone: ZoneConfig) -> tuple[int, int, int, int]:
    """Return the part of the frame that is kept of the zone, pixels."""
    points = np.array(zone.polygon)
    (left, top), (right, bottom) = points.min(0), points.max(0)
    wide, high = MARGIN * (right - left), MARGIN * (bottom - top)
    height, width = clip.frames[0].shape[:2]
    return (
        int(max(left - wide, 0) * width),
        int(max(top - high, 0) * height),
        int(np.ceil(min(right + wide, 1) * width)),
        int(np.ceil(min(bottom + high, 1) * height)),
    )


def accuracies(
    clip: Clip, config: Config, bundle: Bundle, store: SampleStore | None = None
) -> dict[str, float]:
    """Return by zone the balanced accuracy on the later halves, taught where a store is given."""
    classifier = Classifier(bundle, threads=1)
    sampling = None
    if store is not None and config.samples is not None:
        sampling = Sampling(store, config.samples, bundle, classifier)
    return {
        zone.name: accuracy(clip, zone, bundle, classifier, sampling)
        for zone in config.cameras[0].zones
    }


def accuracy(
    clip: Clip, zone: ZoneConfig, bundle: Bundle, classifier: Classifier, sampling: Sampling | None
) -> float:
    fed = bundle.manifest.input
    frames = [clip.frames[number] for number in clip.judging]
    crops = [crop_zone(frame, zone.zone, fed.size, fed.margin) for frame in frames]
    answers = classifier.classify(np.stack([preprocess(crop, fed.preprocess) for crop in crops]))
    said = answers.predictions["state"].probabilities
    if sampling is not None:
        taught, now = sampling.zone(zone), Clock().wall()
        looks = [
            Seen(frame, zone.zone, 0, now, answers.embedding[row], said[row], False, True)
            for row, frame in enumerate(frames)
        ]
        said = np.stack([taught.judge(look).probabilities for look in looks])
    classes = next(task.classes for task in bundle.manifest.tasks if task.name == "state")
    truth = np.array([classes.index(clip.states[number]) for number in clip.judging])
    right = said.argmax(axis=1) == truth
    return round(float(np.mean([right[truth == k].mean() for k in np.unique(truth)])), 4)


def replayed(clip: Clip, config: Config, config_file: Path, bundle: Path) -> dict[str, Any]:
    """Return by zone the share of the clip's time with the right state, and what is said."""
    lines = transom("replay", "--config", config_file, "--clip", f"campus={clip.path}", "--bundle",
                    bundle, "--json").splitlines()  # fmt: skip
    told = [json.loads(line) for line in lines[:-1]]
    found = {}
    for zone in config.cameras[0].zones:
        states = [
            (line["t"], line["payload"]["state"])
            for line in told
            if line["topic"].endswith(f"/{zone.name}/state")
        ]
        said = [
            next((state for t, state in reversed(states) if t <= number / CLIP_FPS), "")
            for number in range(len(clip.states))
        ]
        right = np.mean([a == b for a, b in zip(said, clip.states, strict=True)])
        found[zone.name] = {"right": round(float(right), 4), "says": states}
    return found


class _Steps:
    """What each step took, seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        began_s = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - began_s, 1)
        print(f"{name}: {self.seconds[name]} s", file=sys.stderr)


def run(data: Path, epochs: int, folder: Path, *, is_whole: bool) -> dict[str, Any]:
    clip, steps = Clip(data, is_whole=is_whole), _Steps()
    clip.write(folder / "teach.mp4", clip.teaching)
    (folder / "trusted_keys").mkdir()
    new_key(folder / "home.pem")
    (folder / "home.pub").rename(folder / "trusted_keys" / "home.pub")
    (folder / "recipe.toml").write_text(RECIPE.format(epochs=epochs))
    config_file, starter = folder / "transom.toml", bundle_path("starter")
    with Broker(folder / "broker") as broker:
        page_port = free_port()
        text = CONFIG.format(device=DEVICE, folder=folder, port=broker.port, page_port=page_port,
                             clip=folder / "teach.mp4")  # fmt: skip
        config_file.write_text(text + "".join(_zone(name) for name in ZONES))
        config = load_config(config_file)
        told: dict[str, Any] = {"before": accuracies(clip, config, read_bundle(starter, None))}
        with daemon(config_file):
            told |= teach(clip, config, folder, page_port, steps)
            where = ("--host", "localhost", "--port", broker.port, "--no-tls", "--json")
            with steps.step("pull"):
                pulled = json.loads(transom("pull", folder / "home", DEVICE, *where))
            learn_all(folder / "home")
            with steps.step("train"):
                others(data / "doors", folder / "others")
                transom("train", folder / "home", folder / "others", "--out", folder / "run",
                        "--recipe", folder / "recipe.toml")  # fmt: skip
            with steps.step("export"):
                transom("export", folder / "run", "--key", folder / "home.pem", "--sequence", 1,
                        "--out", folder / "new.bundle", "--set", "fallbacks=[]", "--precision",
                        "auto")  # fmt: skip
            with steps.step("deploy"):
                deployed = json.loads(transom("deploy", folder / "new.bundle", DEVICE, *where))
        new = read_bundle(folder / "new.bundle", None)
        told["pulled"] = {key: pulled[key] for key in ("samples", "labelled")}
        told["deployed"] = deployed["devices"][DEVICE]["step"]
        told["precision"] = new.manifest.precision
        told["retrained"] = accuracies(clip, config, new)
        told["retrained_and_taught"] = taught_accuracies(clip, config, new, folder)
        told["replay_before"] = replayed(clip, config, config_file, starter)
        told["replay_after"] = replayed(clip, config, config_file, folder / "new.bundle")
    return told | {"seconds": steps.seconds}


def _zone(name: str) -> str:
    left, top, right, bottom = ZONES[name]
    polygon = [[left, top], [right, top], [right, bottom], [left, bottom]]
    return ZONE.format(name=name, polygon=polygon)


def learn_all(folder: Path) -> None:
    """Let all of it train: what judges are other frames, that the device has never seen."""
    dataset = read_dataset(folder)
    rows = [replace(row, split="train") for row in dataset.rows]
    write_dataset(folder, name=dataset.name, tasks=dataset.tasks, rows=rows)


def others(doors: Path, folder: Path, without: str | None = None) -> None:
    """Write a data set of a few doors: one picture of a group but `without`, in the same splits."""
    dataset = read_dataset(doors)
    rows = {(row.split, row.group_key): row for row in dataset.rows if row.group != without}
    kept = [
        replace(row, image=f"doors/{row.image}")
        for split, count in OTHERS.items()
        for row in [row for (of, _), row in sorted(rows.items()) if of == split][:count]
    ]
    folder.mkdir()
    (folder / "doors").symlink_to(doors)
    write_dataset(folder, name="others", tasks=dataset.tasks, rows=kept)


def taught_accuracies(clip: Clip, config: Config, bundle: Bundle, folder: Path) -> dict[str, float]:
    """Return what the head makes of a bundle that is learnt from the device's labels by now."""
    copy = folder / f"{bundle.digest[:8]}.sqlite3"
    with sqlite3.connect(folder / "state" / "samples.sqlite3") as live, sqlite3.connect(copy) as to:
        live.backup(to)
    assert config.samples is not None
    store = SampleStore(copy, config.samples)
    found = accuracies(clip, config, bundle, store)
    store.close()
    return found


def teach(
    clip: Clip, config: Config, folder: Path, page_port: int, steps: _Steps
) -> dict[str, Any]:
    """Let the daemon collect, label what it has, and judge what it learnt from that."""
    with steps.step("collect"):
        token = wait_for("token", lambda: _read(folder / "state" / "page-token"))
        page = _Page(page_port, token)
        wait_for("page", lambda: page.ask("status"))
        time.sleep(COLLECT_S)
    labels = {}
    with steps.step("label"):
        for zone in config.cameras[0].zones:
            box = shown_box(clip, zone)
            for sample in page.samples(zone.name):
                data = np.frombuffer(page.ask(f"samples/{sample['id']}/picture"), np.uint8)
                picture = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
                labels[str(sample["id"])] = clip.states[clip.most_similar(picture, box)]
        lessons = page.ask("labels", {"labels": labels})["lessons"]
    corrected = taught_accuracies(clip, config, read_bundle(bundle_path("starter"), None), folder)
    taught = {lesson["place"]: [lesson["examples"], lesson["is_used"]] for lesson in lessons}
    return {"taught": taught, "corrected": corrected}


def _read(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--keep", type=Path, help="A new folder for all that is written.")
    parser.add_argument(
        "--whole", action="store_true", help="Teach from all of the clip, and judge on all of it."
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if arguments.keep is None else arguments.keep.resolve()
        folder.mkdir(parents=True, exist_ok=arguments.keep is None)
        told = run(arguments.data.resolve(), arguments.epochs, folder, is_whole=arguments.whole)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
