"""Tell a real Home Assistant what a device says in a day, and hold what it makes of it against it.

    python -m tools.homeassistant build/homeassistant

`tools/homeassistant/core.py` runs in Home Assistant's environment, which knows nothing of Transom.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import msgspec

from demo.broker import running_broker
from tests.edge_runtime.page_pictures import chromium
from tools.homeassistant.story import tell
from train.scenes import Move, generate_clip
from transom.crop import cut_around

ROOT = Path(__file__).resolve().parents[2]
CORE = Path(__file__).with_name("core.py")
BLUEPRINT = ROOT / "docs/home-assistant/blueprints/automation/transom/left_open.yaml"
CARD = ROOT / "docs/home-assistant/card.yaml"


PAUSE = "a door that is left open is told to the phone, time 2"
VIEWS = {
    "dashboard-desktop": ("/lovelace/0", (1000, 900)),
    "dashboard-phone": ("/lovelace/0", (390, 844)),
    "device-desktop": ("/config/devices/device/{device}", (1280, 900)),
    "blueprint-phone": ("/config/automation/edit/left_open", (390, 1000)),
}
"""Screenshots: where, and how large, by name."""

MARGIN = 0.3
"""Around the door in its picture, as a share of it."""

SETTLES_MS = 3000
"""What its pages take to come to rest after the last request: they fade in."""


def main() -> int:
    """Run the story; return 0 where Home Assistant made of it what it should."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("environment", type=Path, help="a virtual environment with Home Assistant")
    parser.add_argument("--pictures", type=Path, help="a folder for screenshots of its dashboard")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="transom-homeassistant-") as name:
        folder = Path(name)
        story = folder / "story.json"
        story.write_bytes(msgspec.json.encode(tell(_door_picture(folder))))
        command = [arguments.environment / "bin" / "python", CORE, folder, story, BLUEPRINT, CARD]
        with running_broker(folder) as broker:
            if broker.protocol != "5":
                print("mosquitto is not installed: apt-get install mosquitto")
                return 1
            pause = ["--pause", PAUSE] if arguments.pictures else []
            return _run([*map(str, command), str(broker.port), *pause], arguments.pictures)


def _run(command: list[str], pictures: Path | None) -> int:
    """Run the core and show what it says; where it waits to be looked at, take pictures."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as core:
        assert core.stdin is not None
        assert core.stdout is not None
        for line in core.stdout:
            word, *rest = line.split()[:3] or [""]
            if word == "LOOK" and pictures is not None:
                _take_pictures(pictures, *rest)
                core.stdin.write("\n")
                core.stdin.flush()
            else:
                print(line, end="", flush=True)
    return core.returncode


def _take_pictures(folder: Path, port: str, device: str) -> None:
    """Take the pictures as the owner, whom a trusted network lets in without a password."""
    folder.mkdir(parents=True, exist_ok=True)
    with chromium() as browser:
        context = browser.new_context(locale="en-GB")
        for name, (path, (width, height)) in VIEWS.items():
            page = context.new_page()
            page.set_viewport_size({"width": width, "height": height})
            page.goto(f"http://127.0.0.1:{port}{path.format(device=device)}")
            page.wait_for_selector("home-assistant-main", timeout=60_000)
            page.wait_for_load_state("networkidle")
            page.wait_for_timeout(SETTLES_MS)
            page.screenshot(path=folder / f"{name}.jpg", type="jpeg", quality=80)
            page.close()


def _door_picture(folder: Path) -> bytes:
    """Return a JPEG of a drawn door that stands open."""
    clip = folder / "door.mp4"
    opened = Move("door", 0.0, 0.5, "open")
    truth = generate_clip(clip, seed=3, seconds=1.0, script=[opened])
    video = cv2.VideoCapture(str(clip))
    frames = [video.read()[1] for _ in range(truth.frames)]
    part, _ = cut_around(frames[-1], truth.zones["door"], MARGIN)
    return cv2.imencode(".jpg", part)[1].tobytes()


if __name__ == "__main__":
    sys.exit(main())
