"""What the documentation shows in Python does what the page says, on a drawn door."""

import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.docs.blocks import ROOT, Block, blocks
from train.scenes import generate_clip
from train.scenes.clip import Move

FPS = 5
OPENS_S, SHUTS_S, MOVES_S = 4.0, 10.0, 1.0
PAGES_ZONE = (0.31, 0.12, 0.58, 0.97)
"""Left, top, right, bottom of the door that the pages speak of."""

SCRIPTS = [block for block in blocks() if block.language == "python"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `clip.avi`: a drawn door that opens and shuts where the pages have theirs."""
    folder = tmp_path_factory.mktemp("script")
    script = (Move("door", OPENS_S, MOVES_S, "open"), Move("door", SHUTS_S, MOVES_S, "closed"))
    drawn = folder / "drawn.mp4"
    truth = generate_clip(drawn, seed=1, fps=FPS, seconds=15.0, size=(320, 240), script=script)
    size = np.float32([320, 240])
    left, top, right, bottom = PAGES_ZONE
    there = np.float32([(left, top), (right, top), (right, bottom), (left, bottom)])
    moved = cv2.getPerspectiveTransform(np.float32(truth.zones["door"].points) * size, there * size)
    reader = cv2.VideoCapture(str(drawn))
    writer = cv2.VideoWriter(
        str(folder / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), float(FPS), (320, 240)
    )
    for _ in range(truth.frames):
        frame = reader.read()[1]
        writer.write(cv2.warpPerspective(frame, moved, (320, 240), borderMode=cv2.BORDER_REPLICATE))
    writer.release()
    return folder


def test_there_are_scripts_to_run() -> None:
    assert [block.page for block in SCRIPTS] == ["docs/api.md"]


@pytest.mark.parametrize("block", SCRIPTS, ids=str)
def test_a_script_of_a_page_sees_the_door_open_and_shut(block: Block, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", block.code],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    said = re.findall(r"^ *([\d.]+) s  (\w+) ", done.stdout, re.M)
    told = {name: float(at) for at, name in said}
    assert OPENS_S < told["open"] < SHUTS_S, done.stdout
    assert SHUTS_S < told["closed"] < 15.0, done.stdout
