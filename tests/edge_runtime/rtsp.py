"""A real RTSP server that plays a clip.

`python -m tests.edge_runtime.rtsp HOST PORT CLIP` serves until its process ends.
"""

import base64
import os
import re
import secrets
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.edge_runtime.broker import Certificates

_SO_RCVBUFFORCE = 33  # <asm-generic/socket.h>
_BUFFER_BYTES = 4 << 20
"""A busy machine lets packets wait for seconds; one that is lost is a picture that is damaged."""


def require_ffmpeg() -> None:
    if shutil.which("ffmpeg") is None:
        text = "ffmpeg is not installed"
        pytest.fail(text) if os.environ.get("CI") else pytest.skip(text)


class RtspServer(socketserver.ThreadingTCPServer):
    """RTSP over TCP with interleaved RTP (JPEG payload made by ffmpeg), RFC 2326 and 2435.

    Args:
        clip: Played again and again.
        host: Where to listen.
        port: Where to listen; 0 = any that is free.
        grain: Of a sensor, other in each picture: without it the clip comes again, which a frozen
            camera's pictures do.
        refusal: What whoever asks for the stream is answered instead, for instance
            `404 Not Found`; None = nobody is refused.
        key_frame_s: Seconds between two key frames of H.264; whoever comes has just missed one.
            None = JPEG, each a key frame.
        tells_parameters: Whether H.264's parameters are told before the stream, as most cameras
            do; otherwise they come with its key frames only.
        lost_s: From when until when no packet of the stream leaves the camera, though it counts
            them, in seconds since its first; None = all do.
        certificates: With which it encrypts; None = it does not.

    Attributes:
        asked_for: The parts of the stream that were asked for, of each client.
    """

    allow_reuse_address = True
    daemon_threads = True

    def __init__(
        self,
        clip: Path,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        grain: int = 0,
        refusal: str | None = None,
        key_frame_s: float | None = None,
        tells_parameters: bool = True,
        lost_s: tuple[float, float] | None = None,
        certificates: Certificates | None = None,
    ) -> None:
        self.clip = clip
        self.lost_s = lost_s
        self.asked_for: list[str] = []
        self._packing: list[subprocess.Popen[bytes]] = []
        self.key_frame_s = key_frame_s
        self.media = _media(clip, key_frame_s, tells_parameters=tells_parameters)
        self.grain = grain
        self.refusal = refusal
        super().__init__((host, port), RtspSession)
        self._scheme = "rtsp" if certificates is None else "rtsps"
        if certificates is not None:
            self.socket = certificates.serve(self.socket)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"{self._scheme}://{self.server_address[0]}:{self.server_address[1]}/clip"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no news."""

    def pack(self, command: list[str]) -> "subprocess.Popen[bytes]":
        """Start what makes packets; it ends with this server at the latest."""
        packing = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self._packing.append(packing)
        return packing

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()
        for packing in self._packing:
            packing.kill()
            packing.wait()


class RtspSession(socketserver.StreamRequestHandler):
    """One client: answers its requests, then passes RTP packets of ffmpeg on."""

    server: RtspServer

    def handle(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiving:
            with suppress(PermissionError):  # only root may have so much
                receiving.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
            receiving.bind(("127.0.0.1", 0))
            self._converse(receiving)

    def _converse(self, receiving: socket.socket) -> None:
        while (line := self.rfile.readline().decode()).strip():
            method, url = line.split()[:2]
            headers = {}
            while line := self.rfile.readline().decode().strip():
                key, _, value = line.partition(":")
                headers[key.lower()] = value.strip()
            if method == "SETUP":
                self.server.asked_for.append(url.rpartition("/")[2])
            self._answer(method, headers)
            if method == "PLAY":
                self._play(receiving)
                return

    def _answer(self, method: str, headers: dict[str, str]) -> None:
        if method == "DESCRIBE" and self.server.refusal is not None:
            asked = 'WWW-Authenticate: Basic realm="camera"\r\n'
            refused = f"RTSP/1.0 {self.server.refusal}\r\nCSeq: {headers['cseq']}\r\n{asked}\r\n"
            self.wfile.write(refused.encode())
            return
        body = ""
        extra = "Session: 1\r\n"
        if method == "OPTIONS":
            extra += "Public: DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
        if method == "DESCRIBE":
            body = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=clip\r\nt=0 0\r\n" + self.server.media
            extra += f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
        if method == "SETUP":
            assert "TCP" in headers["transport"], "the camera must be asked for TCP"
            extra += "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
        answer = f"RTSP/1.0 200 OK\r\nCSeq: {headers['cseq']}\r\n{extra}\r\n{body}"
        self.wfile.write(answer.encode())

    def _play(self, receiving: socket.socket) -> None:
        address = f"rtp://127.0.0.1:{receiving.getsockname()[1]}?pkt_size=1200"
        command = ["ffmpeg", "-v", "quiet", "-re", "-stream_loop", "-1", "-i"]
        command += [str(self.server.clip), *_encoder(self.server.key_frame_s)]
        # Another seed each time: no camera begins anew with the very pictures of the last time.
        noise = f"noise=alls={self.server.grain}:allf=t:all_seed={secrets.randbelow(2**31)}"
        command += ["-vf", noise, "-f", "rtp", address]
        packing = self.server.pack(command)
        receiving.settimeout(5.0)
        missed_s = 0.5 if self.server.key_frame_s else 0.0
        lost_from_s, lost_until_s = self.server.lost_s or (0.0, 0.0)
        began_s = None
        try:
            while True:
                packet = receiving.recv(2000)
                began_s = time.monotonic() if began_s is None else began_s
                passed_s = time.monotonic() - began_s
                if passed_s < missed_s or lost_from_s <= passed_s < lost_until_s:
                    continue
                self.wfile.write(b"$\x00" + len(packet).to_bytes(2, "big") + packet)
        finally:
            packing.kill()
            packing.wait()


def _encoder(key_frame_s: float | None) -> list[str]:
    """Return what makes ffmpeg encode so."""
    if key_frame_s is None:
        jpeg = "-c:v mjpeg -q:v 3 -huffman default -force_duplicated_matrix 1 -pix_fmt yuvj420p"
        return jpeg.split()
    keys = f"-force_key_frames expr:gte(t,n_forced*{key_frame_s:g}) -g 9999 -sc_threshold 0"
    return f"-c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p {keys}".split()


_SOUND = "m=audio 0 RTP/AVP 0\r\na=control:sound\r\n"
"""What a camera says whose microphone is switched off: not one packet of it ever comes."""


def _media(clip: Path, key_frame_s: float | None, *, tells_parameters: bool) -> str:
    """Return what an answer to DESCRIBE says of the stream."""
    if key_frame_s is None:
        return f"m=video 0 RTP/AVP 26\r\na=control:track\r\na=framerate:10\r\n{_SOUND}"
    told = ""
    if tells_parameters:
        command = ["ffmpeg", "-v", "quiet", "-i", str(clip), "-frames:v", "1"]
        command += [*_encoder(key_frame_s), "-f", "h264", "-"]
        stream = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
        units = re.split(rb"\x00*\x00\x00\x01", stream)
        sets = [base64.b64encode(one).decode() for one in units if one and one[0] & 31 in (7, 8)]
        told = f"; sprop-parameter-sets={','.join(sets)}"
    return (
        "m=video 0 RTP/AVP 96\r\na=control:track\r\na=rtpmap:96 H264/90000\r\n"
        f"a=fmtp:96 packetization-mode=1{told}\r\n{_SOUND}"
    )


if __name__ == "__main__":
    RtspServer(Path(sys.argv[3]), sys.argv[1], int(sys.argv[2]), grain=6)
    threading.Event().wait()
