"""Cameras for tests: servers on loopback that freeze, drip, lie and vanish, and their clients."""

import base64
import http.server
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge_runtime.capture import Camera, CameraProcess, Frame
from tests.edge_runtime.broker import Certificates
from tests.edge_runtime.rtsp import require_ffmpeg
from transom.config import CameraConfig, ZoneConfig

Image = npt.NDArray[np.uint8]

ZONE = ZoneConfig(name="door", polygon=((0.3, 0.1), (0.6, 0.1), (0.6, 0.9), (0.3, 0.9)))


def camera_config(
    source: str, *, fps: float = 30.0, loop: bool = False, username: str | None = None
) -> CameraConfig:
    return CameraConfig(
        name="hall", source=source, fps=fps, loop=loop, username=username, zones=(ZONE,)
    )


def wait_for(condition: Callable[[], object], timeout_s: float = 20.0) -> None:
    """Return as soon as a condition holds; the states of other processes have no events."""
    deadline_s = time.monotonic() + timeout_s
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline_s, f"did not happen within {timeout_s:g} s"
        pause.wait(0.01)


def next_frame(camera: Camera, timeout_s: float = 20.0) -> Frame:
    found: list[Frame] = []

    def look() -> bool:
        frame = camera.newest()
        found.extend([] if frame is None else [frame])
        return bool(found)

    wait_for(look, timeout_s)
    return found[0]


def started_cameras() -> Iterator[Callable[..., CameraProcess]]:
    """Yield a function that starts cameras; afterwards none of their processes may be left."""
    cameras: list[CameraProcess] = []
    pids: set[int] = set()

    def start(config: CameraConfig, secret: str | None = None, **options: Any) -> CameraProcess:
        camera = CameraProcess(config, secret, **options)
        camera.start()
        cameras.append(camera)
        pids.add(camera.process_id or 0)
        return camera

    yield start
    for camera in cameras:
        pids.add(camera.process_id or 0)
        camera.stop()
    assert not [pid for pid in pids if pid and Path(f"/proc/{pid}").exists()]
    assert not open_rings()


def open_rings() -> list[str]:
    """Return this process's descriptors of frame memory."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = entry.readlink()
        except FileNotFoundError:  # the descriptor of this very listing
            continue
        if "transom-frames" in str(target):
            found.append(entry.name)
    return found


def encoded(path: Path, how: str, seconds: float = 2.0) -> Path:
    """Write a clip of a moving test picture, ten a second, as ffmpeg is told to; return it."""
    require_ffmpeg()
    command = f"ffmpeg -v error -f lavfi -i testsrc2=s=320x240:r=10:d={seconds:g} {how}"
    subprocess.run([*command.split(), str(path)], check=True)
    return path


def numbered(index: int, height: int = 96, width: int = 128) -> Image:
    """A picture whose brightness tells its number, with noise so that it looks alive."""
    noise = np.random.default_rng(index).integers(0, 3, (height, width, 3))
    return (noise + 20 + 5 * index).astype(np.uint8)


class Mjpeg(http.server.BaseHTTPRequestHandler):
    """One client of the server below; what it does is decided picture by picture."""

    server: "MjpegServer"

    def do_GET(self) -> None:
        self.server.requests.append(self.headers.get("Authorization"))
        if self.server.credentials and not self._is_authorised():
            self.send_response(401)
            for challenge in self.server.challenges:
                self.send_header("WWW-Authenticate", challenge)
            self.end_headers()
            return
        if self.path == self.server.sends_on[0]:
            self.send_response(302)
            self.send_header("Location", self.server.sends_on[1])
            self.end_headers()
            return
        self.send_response(200)
        if self.server.kind:
            self.send_header("Content-Type", self.server.kind)
        if self.server.length is not None:
            self.send_header("Content-Length", str(self.server.length))
        self.end_headers()
        index = 0
        while not self.server.is_closing.wait(self.server.interval_s):
            self.server.may_send.wait()
            try:
                self.wfile.write(self.server.part(index))
            except (BrokenPipeError, ConnectionResetError):
                return
            index += 1
            if self.server.ends_after and index >= self.server.ends_after:
                return

    def _is_authorised(self) -> bool:
        scheme, _, sent = self.headers.get("Authorization", "").partition(" ")
        if scheme != "Basic":  # who asks for a digest looks at `requests` for what is in it
            return scheme == "Digest"
        return base64.b64decode(sent).decode() == self.server.credentials

    def log_message(self, *args: object) -> None:
        """Say nothing."""


class MjpegServer(http.server.ThreadingHTTPServer):
    """A real MJPEG server on loopback that can freeze, drip, send rubbish and end."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(
        self, port: int = 0, host: str = "127.0.0.1", certificates: Certificates | None = None
    ) -> None:
        super().__init__((host, port), Mjpeg)
        self._scheme = "http" if certificates is None else "https"
        if certificates is not None:
            self.socket = certificates.serve(self.socket)
        self.kind = "multipart/x-mixed-replace; boundary=frame"
        self.length: int | None = None
        self.interval_s = 0.04
        self.credentials = ""
        self.challenges: tuple[str, ...] = ('Basic realm="camera"',)
        self.sends_on = ("", "")
        self.ends_after = 0
        self.requests: list[str | None] = []
        self.is_closing = threading.Event()
        self.may_send = threading.Event()
        self.may_send.set()
        self.part: Callable[[int], bytes] = lambda index: whole(jpeg(index % 40))
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"{self._scheme}://{self.server_address[0]}:{self.server_address[1]}/video"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no news."""

    def close(self) -> None:
        self.is_closing.set()
        self.may_send.set()
        self.shutdown()
        self.server_close()
        self._thread.join()


def jpeg(index: int) -> bytes:
    done, data = cv2.imencode(".jpg", numbered(index))
    assert done
    return data.tobytes()


def whole(data: bytes) -> bytes:
    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data + b"\r\n"
