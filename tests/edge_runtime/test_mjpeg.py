"""MJPEG servers as they are: what they call their stream, how they ask for user and password."""

import secrets
import socket
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from edge_runtime.http_login import Challenge, challenges
from edge_runtime.mjpeg import JpegCutter
from edge_runtime.sources import open_source
from tests.edge_runtime.cameras import MjpegServer, camera_config, jpeg, whole
from transom.errors import CameraError

DIGEST = 'Digest realm="cam, (C1)", nonce="abc", qop="auth"'
RFC_7616 = (
    'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={}, '
    'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", '
    'opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
)
RFC_7616_NONCE = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"


@pytest.fixture
def server() -> Iterator[MjpegServer]:
    server = MjpegServer()
    yield server
    server.close()


def picture_size(source: str, username: str | None = None, secret: str | None = None) -> object:
    opened = open_source(camera_config(source, username=username), secret)
    try:
        opened.grab()
        image = opened.retrieve()
        return None if image is None else image.shape
    finally:
        opened.release()


def refusal(source: str, username: str | None = None, secret: str | None = None) -> str:
    with pytest.raises(CameraError) as caught:
        open_source(camera_config(source, username=username), secret)
    return str(caught.value)


@pytest.mark.parametrize(
    "kind",
    [
        "",
        "video/x-motion-jpeg",
        "video/mjpeg",
        "application/octet-stream",
        'Multipart/X-Mixed-Replace; boundary="--my/b=o"',
        "multipart/x-mixed-replace, boundary=frame",
    ],
)
def test_a_stream_is_one_whatever_its_server_calls_it(server: MjpegServer, kind: str) -> None:
    server.kind = kind
    assert picture_size(server.url) == (96, 128, 3)


@pytest.mark.parametrize(
    ("kind", "length", "called"),
    [
        ("image/jpeg", None, " (image/jpeg)"),
        ("image/jpg", None, " (image/jpg)"),
        ("application/octet-stream", 4000, " (application/octet-stream)"),
        ("", 4000, ""),
    ],
)
def test_a_single_picture_is_no_stream_and_says_what_to_give_instead(
    server: MjpegServer, kind: str, length: int | None, called: str
) -> None:
    server.kind, server.length = kind, length
    assert refusal(server.url).endswith(
        f"is a single picture{called}: give the address of its stream"
    )


def test_an_address_beyond_ascii_and_with_a_user_is_asked_for_as_it_is_meant(
    server: MjpegServer,
) -> None:
    server.credentials = "mé:"
    place = server.url.removeprefix("http://").removesuffix("/video")
    assert picture_size(f"http://m%C3%A9@{place}/tür?größe=%31") == (96, 128, 3)


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_a_digest_is_that_of_the_standard(
    server: MjpegServer, monkeypatch: pytest.MonkeyPatch, algorithm: str, response: str
) -> None:
    monkeypatch.setattr(secrets, "token_hex", lambda _count: RFC_7616_NONCE)
    server.credentials, server.challenges = "asked", (RFC_7616.format(algorithm),)
    url = server.url.removesuffix("/video") + "/dir/index.html"
    picture_size(url, "Mufasa", "Circle of Life")

    assert f'response="{response}"' in (server.requests[-1] or "")
    assert f"algorithm={algorithm}" in (server.requests[-1] or "")


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        (('Basic realm="x"', DIGEST), "Digest"),
        (('Bearer realm="x"', DIGEST), "Digest"),
        (("Negotiate", 'Basic realm="x"'), "Basic"),
        (("Basic",), "Basic"),
        ((f'Basic realm="x", {DIGEST}',), "Digest"),
        ((f"{DIGEST}, algorithm=SHA-512-256", DIGEST), "Digest"),
        ((f"{DIGEST}, algorithm=MD5-sess",), "Digest"),
        ((DIGEST.replace(', qop="auth"', ""),), "Digest"),
    ],
)
def test_the_first_digest_that_can_be_answered_goes_before_the_password_itself(
    server: MjpegServer, asked: tuple[str, ...], answered: str
) -> None:
    server.credentials, server.challenges = "me:pä:ss", asked
    assert picture_size(server.url, "me", "pä:ss") == (96, 128, 3)
    assert [(sent or "").partition(" ")[0] for sent in server.requests] == ["", answered]


def test_a_wrong_password_is_shown_once_and_named(server: MjpegServer) -> None:
    server.credentials = "me:right"
    assert refusal(server.url, "me", "wrong").endswith(
        "answers 401 Unauthorized; are its user and password right?"
    )
    assert len(server.requests) == 2


def test_the_password_is_for_its_own_server_only(server: MjpegServer) -> None:
    other = MjpegServer()
    try:
        other.credentials = "me:secret"
        server.sends_on = ("/video", other.url)
        assert "answers 401" in refusal(server.url, "me", "secret")
        assert other.requests == [None]
    finally:
        other.close()


def test_a_server_that_sends_on_to_itself_is_answered_there(server: MjpegServer) -> None:
    server.credentials, server.challenges = "me:secret", (DIGEST,)
    server.sends_on = ("/video", "/other")
    assert picture_size(server.url, "me", "secret") == (96, 128, 3)


def test_a_server_that_sends_in_a_circle_is_told_of_in_one_line(server: MjpegServer) -> None:
    server.sends_on = ("/video", "/video")
    told = refusal(server.url)
    assert told.startswith(f"{server.url}: answers 302 ")
    assert "\n" not in told


@pytest.mark.parametrize("answer", [b"ICY 200 OK\r\n\r\n", b"RTSP/1.0 400 Bad Request\r\n\r\n"])
def test_what_does_not_speak_http_is_said_not_to(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            client = listening.accept()[0]
            with client:
                client.recv(4096)
                client.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        told = refusal(f"http://127.0.0.1:{listening.getsockname()[1]}/video")
        thread.join()
    assert told.endswith("what answers does not speak HTTP; is this the port of its pictures?")


def test_a_server_that_says_nothing_is_named_with_the_limit() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        told = refusal(f"http://127.0.0.1:{mute.getsockname()[1]}/video")
    assert told.endswith("it does not answer within 3 s")


def test_pictures_that_come_byte_by_byte_come_out_whole() -> None:
    cutter, pictures = JpegCutter(), [jpeg(1), jpeg(2), jpeg(3)]
    found = []
    for byte in b"".join(map(whole, [*pictures, pictures[0][:500], pictures[1]])):
        cutter.add(bytes([byte]))
        found.append(cutter.take())

    assert [one for one in found if one is not None] == [*pictures, pictures[1]]


def test_a_large_picture_in_small_pieces_is_looked_at_once() -> None:
    data = np.random.default_rng(0).integers(0, 256, 2_000_000, np.uint8).tobytes()
    picture = b"\xff\xd8\xff\xda\x00\x02" + data.replace(b"\xff", b"\xff\x00") + b"\xff\xd9"
    cutter, found = JpegCutter(), []
    began_s = time.process_time()
    for start in range(0, len(picture), 1448):  # as it comes over a slow network
        cutter.add(picture[start : start + 1448])
        found.append(cutter.take())

    assert found[-1] == picture
    assert time.process_time() - began_s < 2.0


def test_challenges_are_told_apart_from_their_parameters() -> None:
    assert challenges(['Negotiate abc==, Digest realm="a\\"b, c" , qop = "auth"', "junk="]) == [
        Challenge("negotiate", {"abc": "="}),
        Challenge("digest", {"realm": 'a"b, c', "qop": "auth", "junk": ""}),
    ]
