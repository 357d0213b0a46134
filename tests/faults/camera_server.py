"""An MJPEG server in a process of its own, which shows what it is told to on standard input.

`python -m tests.faults.camera_server HOST PORT FOLDER`. Each line names what comes from then on:
the name of pictures in FOLDER (`open` = open-0.jpg, open-1.jpg, … in turn, each time with other
noise of a sensor, because pictures that come again are a frozen camera's), or `drip`, a byte at a
time without end, `garbage`, or `cut`, pictures of which the second half is missing.
"""

import random
import sys
from pathlib import Path

import cv2
import numpy as np

from tests.edge_runtime.cameras import MjpegServer, whole

INTERVAL_S = 0.1


def main() -> None:
    host, port, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    kinds: dict[str, list[bytes]] = {}
    for file in sorted(folder.glob("*.jpg")):
        kinds.setdefault(file.stem.partition("-")[0], []).append(file.read_bytes())
    server = MjpegServer(port, host)
    server.interval_s = INTERVAL_S
    shown = "open"

    def part(index: int) -> bytes:
        if shown == "drip":
            return b"x"
        if shown == "garbage":
            return random.randbytes(20_000)
        pictures = kinds["open" if shown == "cut" else shown]
        data = pictures[index % len(pictures)]
        if shown == "open":
            return whole(grained(data))
        return whole(data[: len(data) // 2] if shown == "cut" else data)

    server.part = part
    for line in sys.stdin:
        shown = line.strip()


def grained(data: bytes) -> bytes:
    """Return a JPEG with noise of its own."""
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    noise = np.random.default_rng().normal(0.0, 2.0, picture.shape)
    noisy = np.clip(picture + noise, 0, 255).astype(np.uint8)
    return bytes(cv2.imencode(".jpg", noisy)[1].tobytes())


if __name__ == "__main__":
    main()
