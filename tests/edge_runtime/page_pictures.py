"""Take the pictures of the page that the documentation shows: drawn rooms, the starter, a browser.

python -m tests.edge_runtime.page_pictures docs/page
"""

import argparse
import itertools
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright

from edge_runtime.models import serving_bundle
from edge_runtime.replay import ClipClock
from tests.edge_runtime.conftest import PlayListCamera
from tests.edge_runtime.page import ServedDaemon, configuration_of
from train.scenes.clip import ClipTruth, Move, generate_clip
from transom.config import ModelsConfig
from transom.crop import Image

PHONE = {"width": 375, "height": 812}
DESKTOP = {"width": 1280, "height": 860}


class AfternoonClock(ClipClock):
    """The clip's time, on a day on which somebody may have labelled its pictures."""

    START = datetime(2026, 11, 28, 15, 4, tzinfo=UTC)

    def wall(self) -> datetime:
        return self.START + timedelta(microseconds=self.now_ns // 1000)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium of the system."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        raise SystemExit("chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


class DayClock(AfternoonClock):
    """The same afternoon, a day after the daemon has started."""

    START = AfternoonClock.START - timedelta(days=1)


@dataclass(frozen=True)
class Step:
    """A picture of a day that is played: it comes so long after the one before."""

    after_s: float
    image: Image


ROOM_S = 26.0
ROOM = (
    Move("door", 2.0, 1.6, "open"),
    Move("door", 8.0, 1.6, "closed"),
    Move("window", 14.0, 1.6, "open"),
    Move("window", 20.0, 1.6, "closed"),
)
"""What is filmed of a room; a day is cut together from it."""

OPENINGS = (
    (1.2, "door", 2.0),
    (2.75, "door", 1.0),
    (5.4, "door", 14.0),
    (15.4, "window", 35.0),
    (16.6, "door", 1.0),
    (17.05, "door", 3.0),
    (20.3, "window", 20.0),
    (21.6, "door", 6.0),
    (23.7, "door", 4.0),
)
"""Hours after the start, what is opened, and for how many minutes."""

NIGHT_H = (7.6, 15.2)
"""Between these hours the room is too dark to tell anything."""


def day_of(frames: Sequence[Image]) -> list[Step]:
    """Return a day of the filmed room: movements as they were filmed, and few pictures between.

    A whole day at five frames a second would be 432,000 pictures. Those between come again and
    again, so each gets noise of its own, as a sensor's: the same ones would be a frozen camera's.
    """
    fps = 5
    random = np.random.default_rng(4)
    height, width = frames[0].shape[:2]
    grain = random.integers(0, 5, (2 * height, 2 * width, 3), np.uint8)
    moving = {"door": (1.6, 7.6), "window": (13.6, 19.6)}
    steps: list[Step] = []
    now_s = 0.0

    def film(begin_s: float, seconds: float) -> None:
        nonlocal now_s
        for image in frames[round(begin_s * fps) : round((begin_s + seconds) * fps)]:
            steps.append(Step(1.0 / fps, image))
            now_s += 1.0 / fps

    def rest(begin_s: float, until_s: float, every_s: float) -> None:
        nonlocal now_s
        still = itertools.cycle(frames[round(begin_s * fps) : round((begin_s + 1.6) * fps)])
        while now_s < until_s:
            after_s = min(every_s if now_s < 22.9 * 3600 else 30.0, until_s - now_s)
            now_s += after_s
            is_night = NIGHT_H[0] <= now_s / 3600 < NIGHT_H[1]
            y, x = random.integers(0, (height, width)).tolist()
            image = next(still) // (16 if is_night else 1)
            image = cv2.add(image, grain[y : y + height, x : x + width])
            steps.append(Step(after_s, np.asarray(image, np.uint8)))

    film(0.0, 1.6)
    for at_h, what, minutes in OPENINGS:
        rest(0.0, at_h * 3600, every_s=240.0)
        opening_s, closing_s = moving[what]
        film(opening_s, 5.6)
        rest(opening_s + 2.8, now_s + minutes * 60, every_s=60.0)
        film(closing_s, 5.6)
    rest(0.0, 24 * 3600, every_s=240.0)
    return steps


def frames_of(file: Path) -> list[Image]:
    capture = cv2.VideoCapture(str(file))
    found = []
    while True:
        done, image = capture.read()
        if not done:
            return found
        found.append(image)


def served(folder: Path) -> tuple[ServedDaemon, ClipTruth]:
    """A daemon that has watched a drawn room for a while, with the starter, and what was true."""
    truth = generate_clip(folder / "hall.mp4", seed=4, seconds=40.0, fps=5)
    zones = {name: zone.points for name, zone in truth.zones.items()}
    frames = frames_of(folder / "hall.mp4")
    bundle = serving_bundle(ModelsConfig(bundle="starter"))
    configuration = configuration_of(zones)
    one = ServedDaemon(folder, bundle, PlayListCamera, frames, configuration, AfternoonClock())
    one.play.turn(39)
    return one, truth


def watched_for_a_day(folder: Path) -> ServedDaemon:
    """A daemon that has watched a drawn room for a day, with the starter."""
    truth = generate_clip(folder / "day.mp4", seed=4, seconds=ROOM_S, fps=5, script=ROOM)
    zones = {name: zone.points for name, zone in truth.zones.items()}
    day = day_of(frames_of(folder / "day.mp4"))
    bundle = serving_bundle(ModelsConfig(bundle="starter"))
    pictures = (step.image for step in day)
    one = ServedDaemon(
        folder, bundle, PlayListCamera, pictures, configuration_of(zones), DayClock()
    )
    for step in day:
        one.play.clock.now_ns += round(step.after_s * 1e9)
        one.play.daemon.step()
    return one


def take(page: Page, file: Path, *, whole: bool = True) -> None:
    page.wait_for_load_state("networkidle")
    page.screenshot(path=str(file), full_page=whole, type="jpeg", quality=80)
    sys.stdout.write(f"{file}\n")


def true_state(truth: ClipTruth, sample: dict[str, Any]) -> str:
    """Return what a kept picture shows."""
    seconds = (datetime.fromisoformat(sample["taken_at"]) - AfternoonClock.START).total_seconds()
    changes = truth.states[sample["place"]]
    return [state for frame, state in changes if frame <= seconds * truth.fps][-1]


def label_until_learnt(page: Page, one: ServedDaemon, truth: ClipTruth) -> None:
    """Label cluster after cluster with what is true, by its key, until something is learnt."""
    labelled = 0
    while page.get_by_text("learnt.").count() == 0:
        cluster = one.client.get("/api/samples?labelled=no").json["clusters"][0]
        samples = cluster["samples"]
        page.keyboard.press(str(1 + cluster["classes"].index(true_state(truth, samples[0]))))
        labelled += len(samples)
        page.get_by_text(re.compile(rf"^{labelled} of \d+ pictures")).wait_for()


@contextmanager
def opened(browser: Browser, one: ServedDaemon, name: str) -> Iterator[Page]:
    """The page of a daemon in a browser of one size: a phone's, dark, or a desktop's."""
    size, scheme = (PHONE, "dark") if name == "phone" else (DESKTOP, "light")
    context: Any = browser.new_context(
        viewport=size,
        color_scheme=scheme,
        device_scale_factor=1,
        has_touch=name == "phone",
        timezone_id="UTC",
        locale="en-GB",
    )
    page = context.new_page()
    page.clock.set_fixed_time(one.play.clock.wall())
    page.goto(f"http://127.0.0.1:{one.server.port}/#{one.token}")
    page.wait_for_selector(".view img:visible")
    page.wait_for_selector(".chart path")
    try:
        yield page
    finally:
        context.close()


def camera_pictures(browser: Browser, one: ServedDaemon, out: Path) -> None:
    for name in ("phone", "desktop"):
        with opened(browser, one, name) as page:
            take(page, out / f"cameras-{name}.jpg")
            if name == "phone":
                page.get_by_role("button", name="Draw zones").click()
                take(page, out / f"zones-{name}.jpg", whole=False)


def label_pictures(browser: Browser, one: ServedDaemon, truth: ClipTruth, out: Path) -> None:
    for name in ("phone", "desktop"):
        with opened(browser, one, name) as page:
            page.get_by_role("link", name="Label").click()
            page.wait_for_selector(".picture img")
            if name == "phone":
                take(page, out / f"label-{name}.jpg", whole=False)
            else:
                label_until_learnt(page, one, truth)
                page.set_viewport_size(DESKTOP | {"height": 1000})
                take(page, out / f"learnt-{name}.jpg", whole=False)


def dataset_pictures(browser: Browser, folder: Path, out: Path) -> None:
    transom = [sys.executable, "-m", "transom"]
    data = folder / "rooms"
    subprocess.run(
        [
            *transom,
            "data",
            "generate",
            str(data),
            "--groups",
            "6",
            "--pictures",
            "3",
            "--seed",
            "3",
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    command = [*transom, "label", str(data), "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        link = process.stdout.readline().strip()
        page = browser.new_page(viewport=PHONE)
        page.goto(link)
        page.get_by_label("Which pictures").select_option("yes")
        page.get_by_text("are still being looked at").wait_for(state="detached")
        page.wait_for_selector(".picture img")
        take(page, out / "dataset-phone.jpg", whole=False)
        process.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", choices=("cameras", "labels", "dataset"), help="nothing else")
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    wanted = (arguments.only,) if arguments.only else ("cameras", "labels", "dataset")
    with tempfile.TemporaryDirectory() as name, chromium() as browser:
        if "cameras" in wanted:
            day_folder = Path(name) / "day"
            day_folder.mkdir()
            with closing(watched_for_a_day(day_folder)) as one:
                camera_pictures(browser, one, out)
        if "labels" in wanted:
            one, truth = served(Path(name))
            with closing(one):
                label_pictures(browser, one, truth, out)
        if "dataset" in wanted:
            dataset_pictures(browser, Path(name), out)


if __name__ == "__main__":
    main()
