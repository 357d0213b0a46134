"""Read a clip at its own pace, with or without Frigate's recipe on top: processor time a second.

    python -m benchmarks.clip_loop CLIP SECONDS frigate.tflite

A step of `benchmarks.daemon_clip`, in a process of its own: what the daemon is put beside.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

_FRIGATE_THREADS, _FRIGATE_INTERVAL_S = 2, 1.0


def read_clip(
    clip: str, seconds: float, look: Callable[[np.ndarray], object] | None
) -> tuple[float, float]:
    """Read a clip again and again.

    Returns:
        Processor time per second, and how many of the frames that were due were read, 0 to 1: on a
        machine that is too busy it falls behind, and its processor time says less than it should.

    Args:
        clip: The video.
        seconds: How long.
        look: What is done with a frame, uint8 (H, W, 3) BGR, once a second.
    """
    capture = cv2.VideoCapture(clip)
    interval_s = 1.0 / (capture.get(cv2.CAP_PROP_FPS) or 30.0)
    began_s, began_cpu_s = time.monotonic(), time.process_time()
    due_s, look_s, frames = began_s, began_s, 0
    while time.monotonic() - began_s < seconds:
        is_read, frame = capture.read()
        frames += 1
        if not is_read:
            capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
        elif look is not None and time.monotonic() >= look_s:
            look(frame)
            look_s += _FRIGATE_INTERVAL_S
        due_s += interval_s
        time.sleep(max(due_s - time.monotonic(), 0.0))
    passed_s = time.monotonic() - began_s
    return (time.process_time() - began_cpu_s) / passed_s, frames * interval_s / passed_s


def main() -> None:
    """Do so with Frigate's recipe, once a second, two threads, and print the two figures."""
    from benchmarks.peer_runtimes import frigate_look

    clip, seconds, file = sys.argv[1:]
    look = frigate_look(Path(file), _FRIGATE_THREADS)
    print(
        *read_clip(clip, float(seconds), lambda frame: look(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)))
    )


if __name__ == "__main__":
    main()
