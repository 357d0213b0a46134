"""Take the pictures of the page that the documentation shows: drawn rooms, the starter, a browser.

python -m tests.edge_runtime.page_pictures docs/page
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
from playwright.sync_api import Browser, Page, sync_playwright

from edge_runtime.models import serving_bundle
from edge_runtime.replay import ClipClock
from tests.edge_runtime.conftest import PlayListCamera
from tests.edge_runtime.page import ServedDaemon, configuration_of
from train.scenes.clip import ClipTruth, generate_clip
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


def device_pictures(browser: Browser, one: ServedDaemon, truth: ClipTruth, out: Path) -> None:
    for name, size, scheme in (("phone", PHONE, "dark"), ("desktop", DESKTOP, "light")):
        context: Any = browser.new_context(
            viewport=size, color_scheme=scheme, device_scale_factor=1, has_touch=name == "phone"
        )
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{one.server.port}/#{one.token}")
        page.wait_for_selector(".view img:visible")
        page.wait_for_selector(".chart path")
        take(page, out / f"cameras-{name}.jpg")
        if name == "phone":
            page.get_by_role("button", name="Draw zones").click()
            take(page, out / f"zones-{name}.jpg", whole=False)
            page.get_by_role("button", name="Cancel").click()
        page.get_by_role("link", name="Label").click()
        page.wait_for_selector(".picture img")
        if name == "phone":
            take(page, out / f"label-{name}.jpg", whole=False)
        else:
            label_until_learnt(page, one, truth)
            page.set_viewport_size(DESKTOP | {"height": 1000})
            take(page, out / f"learnt-{name}.jpg", whole=False)
        context.close()


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
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        one, truth = served(Path(folder))
        try:
            device_pictures(browser, one, truth, out)
        finally:
            one.close()
        dataset_pictures(browser, Path(folder), out)


if __name__ == "__main__":
    main()
