"""Measure which pictures the daemon calls unusable: on real ones, and on faults put into them.

    python -m benchmarks.picture_health
    python -m benchmarks.picture_health --part frozen --stills 6

Normal pictures are the photographs of `doors` and `kinds` and every frame of `window_clip`; none of
them is a camera's, so the figure is about the rules' patience with what doors and windows look
like. Faults are put into photographs drawn from them. Streams are made with ffmpeg, of a still
photograph under a sensor's noise, which goes on or is stuck from a moment on. A view is a window
into a photograph, which another light falls on, something stands before, or which moves.
"""

import argparse
import json
import os
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge_runtime.clips import read_file
from edge_runtime.frozen import FreezeWatch
from edge_runtime.picture import PictureHealth
from edge_runtime.view import MOST_SHIFT, Look, Reference, corner_shift, no_shift
from train.metrics import wilson_interval
from transom.geometry import Zone

Image = npt.NDArray[np.uint8]
Row = dict[str, Any]

FOLDERS = ("doors", "kinds")
CLIP = "window_clip/main_campus_1.mp4"
VIEW = (640, 480)
STILL = (480, 360)
FPS, STILL_S, STUCK_S = 10, 24, 8
NOISES = (0.4, 2.0)  # of the sensor, grey levels
ENCODERS = {
    "H.264 crf 28, key 2 s": "-c:v libx264 -preset veryfast -crf 28 -g 20",
    "H.264 qp 44, key 4 s": "-c:v libx264 -preset veryfast -qp 44 -g 40",
    "H.264 one key frame": "-c:v libx264 -preset veryfast -crf 32 -g 9999 -sc_threshold 0",
    "H.264 at most 200 kb/s": (
        "-c:v libx264 -preset veryfast -b:v 200k -maxrate 200k -bufsize 400k -g 20"
    ),
    "H.264 always 400 kb/s": (
        "-c:v libx264 -preset veryfast -b:v 400k -minrate 400k -maxrate 400k -bufsize 400k"
        " -x264-params nal-hrd=cbr -g 20"
    ),
    "H.265 crf 34, key 4 s": (
        "-c:v libx265 -preset ultrafast -crf 34 -g 40 -x265-params log-level=none"
    ),
    "MPEG-4, key 1.2 s": "-c:v mpeg4 -q:v 12 -g 12",
    "MJPEG": "-c:v mjpeg -q:v 14 -pix_fmt yuvj420p",
}


# ------------------------------------------------------------------------------- pictures


def photographs(data: Path, count: int | None, seed: int) -> Iterator[Image]:
    """Yield photographs, all of them or some drawn at random."""
    files = [f for folder in FOLDERS for f in sorted((data / folder / "images").rglob("*.jpg"))]
    if count is not None:
        drawn = np.random.default_rng(seed).permutation(len(files))[:count]
        files = [files[index] for index in drawn]
    for file in files:
        image = cv2.imread(str(file), cv2.IMREAD_COLOR)
        if image is not None:
            yield np.asarray(image, np.uint8)


def noisy(image: npt.NDArray[Any], noise: float, random: np.random.Generator) -> Image:
    return np.clip(image + random.normal(0.0, noise, image.shape), 0, 255).astype(np.uint8)


def view_of(
    image: Image, across: float = 0.0, down: float = 0.0, turned: float = 0.0
) -> npt.NDArray[Any]:
    """Return a camera's window into a photograph, pushed by parts of its width and turned."""
    height, width = image.shape[:2]
    scale = 1.25 * VIEW[0] / width
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), turned, scale)
    matrix[:, 2] += (
        VIEW[0] * (0.5 + across) - width / 2,
        VIEW[1] / 2 + VIEW[0] * down - height / 2,
    )
    return np.asarray(cv2.warpAffine(image, matrix, VIEW, borderMode=cv2.BORDER_REFLECT))


def infrared(image: npt.NDArray[Any], random: np.random.Generator) -> Image:
    """No colour, a spot of light in the middle, a sensor at its limit."""
    rows, columns = np.mgrid[0 : image.shape[0], 0 : image.shape[1]]
    rows, columns = rows / image.shape[0] - 0.5, columns / image.shape[1] - 0.5
    spot = np.exp(-((columns / 0.55) ** 2) - (rows / 0.6) ** 2)
    grey = cv2.cvtColor(image.astype(np.uint8), cv2.COLOR_BGR2GRAY) / 255.0
    lit = noisy(204.0 * grey**0.7 * spot + 10.0, 6.0, random)
    return np.repeat(lit[:, :, None], 3, axis=2)


def lamp(image: npt.NDArray[Any], random: np.random.Generator) -> Image:
    rows, columns = np.mgrid[0 : image.shape[0], 0 : image.shape[1]] / image.shape[1]
    light = 0.25 + np.exp(-(((columns - 0.1) / 0.5) ** 2) - ((rows - 0.15) / 0.4) ** 2)
    return noisy(np.clip(image * light[:, :, None], 0, 255), 5.0, random)


def sprayed(image: npt.NDArray[Any], random: np.random.Generator) -> Image:
    blurred = cv2.GaussianBlur(image, (0, 0), image.shape[1] / 25)
    return noisy(0.25 * blurred + 0.75 * np.array([60.0, 90.0, 120.0]), 3.0, random)


# ------------------------------------------------------------------------------- single pictures


def filled(colour: tuple[int, int, int], share: float) -> Callable[..., Image]:
    def fault(image: Image, _random: np.random.Generator) -> Image:
        image = image.copy()
        image[int(image.shape[0] * (1 - share)) :] = colour
        return image

    return fault


def smeared(image: Image, _random: np.random.Generator) -> Image:
    image = image.copy()
    half = image.shape[0] // 2
    image[half:] = image[half]
    return image


def without_colour_planes(image: Image, _random: np.random.Generator) -> Image:
    even = image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]
    planes = cv2.cvtColor(even, cv2.COLOR_BGR2YUV_I420)
    planes[even.shape[0] :] = 0
    return np.asarray(cv2.cvtColor(planes, cv2.COLOR_YUV2BGR_I420), np.uint8)


def hand(image: Image, random: np.random.Generator) -> Image:
    """Something close and out of focus before the whole lens."""
    coarse = random.uniform(40, 120) + random.normal(0.0, 12.0, (3, 3, 3))
    size = (image.shape[1], image.shape[0])
    return noisy(cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC), 4.0, random)


FAULTS: dict[str, tuple[Callable[..., Image], set[str]]] = {
    "night without light": (lambda image, random: noisy(image * 0.03, 3.0, random), {"dark"}),
    "blown out": (lambda image, random: noisy(image * 0.2 + 245.0, 3.0, random), {"bright"}),
    "a hand before the lens": (hand, {"covered", "dark"}),
    "paint over the lens": (sprayed, {"covered"}),
    "green below, a tenth": (filled((0, 135, 0), 0.1), {"corrupt"}),
    "green below, half": (filled((0, 135, 0), 0.5), {"corrupt"}),
    "grey below, half": (filled((128, 128, 128), 0.5), {"corrupt"}),
    "grey all over": (filled((128, 128, 128), 1.0), {"corrupt", "covered"}),
    "no colour planes": (without_colour_planes, {"corrupt"}),
    "the last row drawn down": (smeared, {"corrupt"}),
}


def single_pictures(data: Path, count: int) -> Iterator[Row]:
    """Judge real pictures, as they are and with faults put into them."""
    random = np.random.default_rng(1)
    found: Counter[str | None] = Counter()
    for image in photographs(data, None, 0):
        found[PictureHealth().judge(image, 0.0)] += 1
    yield false_alarms("photographs", found)
    found = Counter(
        PictureHealth().judge(infrared(image, random), 0.0) for image in photographs(data, count, 1)
    )
    yield false_alarms("some of them as by infra-red", found)
    health = PictureHealth()
    found = Counter(health.judge(p.image, p.clip_s, p.key_frames) for p in read_file(data / CLIP))
    yield false_alarms("frames of the clip", found)
    for name, (fault, right) in FAULTS.items():
        reasons = [
            PictureHealth().judge(fault(image, random), 0.0)
            for image in photographs(data, count, 2)
        ]
        told = sum(reason in right for reason in reasons)
        yield row(name, "found", told, len(reasons))


def false_alarms(name: str, found: Counter[str | None]) -> Row:
    total = sum(found.values())
    return row(name, "false alarms", total - found[None], total)


def row(name: str, what: str, count: int, of: int) -> Row:
    """Return a row with the 95 % interval of a share."""
    low, high = wilson_interval(count / of, of)
    return {"case": name, "what": what, "count": count, "of": of, "low": low, "high": high}


# ------------------------------------------------------------------------------- streams


def still_pictures(image: Image, noise: float, is_stuck: bool, seed: int) -> Iterator[Image]:
    random = np.random.default_rng(seed)
    still = cv2.GaussianBlur(cv2.resize(image, STILL, interpolation=cv2.INTER_AREA), (3, 3), 0)
    # Cut from a larger field at another place each time, which costs less than drawing it anew.
    field = random.normal(0.0, noise, (2 * STILL[1], 2 * STILL[0], 3)).astype(np.float32)
    picture = still
    for index in range(STILL_S * FPS):
        if not is_stuck or index < STUCK_S * FPS:
            down, across = random.integers(0, STILL[1]), random.integers(0, STILL[0])
            grain = field[down : down + STILL[1], across : across + STILL[0]]
            picture = np.clip(np.rint(still + grain), 0, 255).astype(np.uint8)
        yield picture


def first_frozen_s(pictures: Iterator[Image], options: str, folder: Path) -> float | None:
    """Return when a stream is first called frozen, seconds, at five looks a second."""
    path = folder / "still.mkv"
    command = (
        f"ffmpeg -v error -y -f rawvideo -pix_fmt bgr24 -s {STILL[0]}x{STILL[1]} -r {FPS} -i -"
    )
    command += f" -pix_fmt yuv420p -threads 1 {options}"
    raw = b"".join(picture.tobytes() for picture in pictures)
    subprocess.run([*command.split(), str(path)], input=raw, check=True)
    watch = FreezeWatch()
    for index, picture in enumerate(read_file(path)):
        is_looked_at = index % (FPS // 5) == 0
        if is_looked_at and watch.is_frozen(picture.image, picture.clip_s, picture.key_frames):
            return picture.clip_s
    return None


def streams(data: Path, stills: int) -> Iterator[Row]:
    """Judge encoded streams of still scenes that live, and of ones that are stuck."""
    images = list(photographs(data, stills, 3))
    with tempfile.TemporaryDirectory() as folder:
        for name, options in ENCODERS.items():
            cases = [(image, noise, i) for i, image in enumerate(images) for noise in NOISES]
            living, stuck = (
                [
                    first_frozen_s(
                        still_pictures(image, noise, is_stuck, seed), options, Path(folder)
                    )
                    for image, noise, seed in cases
                ]
                for is_stuck in (False, True)
            )
            called = sum(moment_s is not None for moment_s in living)
            yield row(name, "living, called frozen", called, len(cases))
            delays_s = [moment_s - STUCK_S for moment_s in stuck if moment_s is not None]
            found = row(name, "stuck, found in 16 s", len(delays_s), len(cases))
            yield found | {"median_s": float(np.median(delays_s)) if delays_s else None}


# ------------------------------------------------------------------------------- views

Change = Callable[[Image, np.random.Generator], npt.NDArray[Any]]


def occluded(image: Image, random: np.random.Generator) -> Image:
    view = view_of(image)
    view[:, : VIEW[0] // 2] = random.normal(100.0, 10.0, (VIEW[1], VIEW[0] // 2, 3))
    return noisy(view, 4.0, random)


def pushed(across: float = 0.0, down: float = 0.0, turned: float = 0.0) -> Change:
    return lambda image, random: noisy(view_of(image, across, down, turned), 4.0, random)


IN_PLACE: dict[str, Change] = {
    "the same": pushed(),
    "a third of the light": lambda image, random: noisy(view_of(image) * 0.3, 4.0, random),
    "a lamp at the side": lambda image, random: lamp(view_of(image), random),
    "infra-red": lambda image, random: infrared(view_of(image), random),
    "something before the left half": occluded,
    "drift of 1 %": pushed(0.01),
    "drift of 3 %": pushed(0.024, 0.017),
    "turned by 1.5 degrees": pushed(turned=1.5),
}
ELSEWHERE: dict[str, Change] = {
    "pushed by 7 %": pushed(0.07),
    "pushed by 10 %": pushed(0.1),
    "pushed by 25 %": pushed(0.25, 0.1),
    "turned by 8 degrees": pushed(turned=8.0),
    "painted": lambda image, random: sprayed(view_of(image), random),
}


def views(data: Path, count: int) -> Iterator[Row]:
    """Look for references in pictures of the same view and of others."""
    random = np.random.default_rng(4)
    zones = [Zone.rectangle(0.35, 0.15, 0.65, 0.95)]
    references = [
        (image, Reference.of(Look.at(pushed()(image, random)), zones))
        for image in photographs(data, count, 4)
        if min(image.shape[:2]) >= 300
    ]
    able = [(image, reference) for image, reference in references if reference.can_judge]
    yield row("views with corners enough", "judged", len(able), len(references))
    for what, changes in (("found in place", IN_PLACE), ("told", ELSEWHERE)):
        for name, change in changes.items():
            place = [is_in_place(reference, change(image, random)) for image, reference in able]
            count_right = sum(place) if what == "found in place" else len(place) - sum(place)
            yield row(name, what, count_right, len(place))
    others = [able[(index + 1) % len(able)][0] for index in range(len(able))]
    place = [
        is_in_place(reference, pushed()(other, random))
        for (_, reference), other in zip(able, others, strict=True)
    ]
    yield row("another view altogether", "told", len(place) - sum(place), len(place))


def is_in_place(reference: Reference, picture: npt.NDArray[Any]) -> bool:
    found = reference.find(Look.at(np.asarray(picture, np.uint8)), no_shift())
    return found is not None and corner_shift(found.shift, reference.size) <= MOST_SHIFT


# ------------------------------------------------------------------------------- the command


def default_data() -> Path:
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("TRANSOM_DATA") or beside)


def shown(one: Row) -> str:
    delay = f", {one['median_s']:.1f} s in the median" if one.get("median_s") else ""
    return (
        f"| {one['case']} | {one['what']} | {one['count']} of {one['of']} "
        f"({100 * one['low']:.1f} to {100 * one['high']:.1f} %){delay} |"
    )


def main() -> None:
    """Print a table, or with `--json` a list of rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, default=default_data(), help="folder of real pictures")
    parser.add_argument("--part", choices=["single", "frozen", "views"], action="append")
    parser.add_argument("--pictures", type=int, default=400, help="into which faults are put")
    parser.add_argument(
        "--stills", type=int, default=4, help="still scenes of which streams are made"
    )
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if not (arguments.data / FOLDERS[0]).is_dir():
        parser.exit(
            0, f"{arguments.data}: no real pictures here; give --data or set TRANSOM_DATA\n"
        )
    parts: dict[str, Callable[[], Iterator[Row]]] = {
        "single": lambda: single_pictures(arguments.data, arguments.pictures),
        "frozen": lambda: streams(arguments.data, arguments.stills),
        "views": lambda: views(arguments.data, arguments.pictures),
    }
    rows = []
    for name, part in parts.items():
        if arguments.part and name not in arguments.part:
            continue
        for one in part():
            rows.append(one)
            if not arguments.json:
                print(shown(one), flush=True)
    if arguments.json:
        print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
