"""ONVIF cameras are found and asked, and what strangers answer does no harm."""

import socket
import threading

import pytest

from edge_runtime.setup import soap
from edge_runtime.setup.cameras import find_cameras
from edge_runtime.setup.onvif import Found, discover, service_of, streams
from edge_runtime.setup.soap import MOST_BYTES, parse
from tests.edge_runtime.onvif_camera import OnvifCamera
from transom.errors import CameraError

STREAMS = [
    ("p0", "H264", 2560, 1440, "rtsp://10.0.0.9:554/s0?c=1&p=0"),
    ("p1", "H264", 704, 576, "rtsp://10.0.0.9:554/s1?c=1&p=1"),
    ("p2", "H265", 640, 480, "rtsp://10.0.0.9:554/s2"),
    ("p3", "H264", 320, 240, "rtsp://10.0.0.9:554/s3"),
]


def place(camera: OnvifCamera) -> tuple[str, int]:
    return "127.0.0.1", camera.discovery_port


def test_a_camera_is_found_where_it_answered_from_whatever_it_calls_itself() -> None:
    with OnvifCamera() as camera:
        found = discover(1.0, [place(camera)])
        service = f"http://{camera.address}/onvif/device_service"
        assert found == [Found("127.0.0.1", service, "ACME IPC 7")]


def test_the_list_says_what_to_give_as_source() -> None:
    with OnvifCamera() as camera:
        listed = find_cameras(1.0, [place(camera)])
        onvif = [one for one in listed if one.source.startswith("onvif://")]
    assert [one.as_json() for one in onvif] == [
        {
            "source": f"onvif://{camera.address}/onvif/device_service",
            "what": "ACME IPC 7",
            "do": "",
        }
    ]


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "no XML",
        "<a><b></a>",
        "<XAddrs>ftp://cam/x</XAddrs>",
        "<XAddrs>http://[::1/x</XAddrs>",
        '<!DOCTYPE a [<!ENTITY b "http://cam/x">]><XAddrs>&b;</XAddrs>',
    ],
)
def test_an_answer_that_names_no_service_is_no_camera(answer: str) -> None:
    with OnvifCamera() as camera:
        camera.matches = [answer] if answer else []
        assert discover(0.3, [place(camera)]) == []


def test_the_stream_that_a_small_board_can_read_comes_first() -> None:
    with OnvifCamera() as camera:
        camera.streams = list(STREAMS)
        found = streams(service_of(camera.address), "admin", "geheim")

    assert [(stream.source, stream.width) for stream in found] == [
        ("rtsp://127.0.0.1:554/s1?c=1&p=1", 704),
        ("rtsp://127.0.0.1:554/s0?c=1&p=0", 2560),
        ("rtsp://127.0.0.1:554/s3", 320),
        ("rtsp://127.0.0.1:554/s2", 640),
    ]
    assert "geheim" not in camera.sent


def test_a_clock_that_no_calendar_has_is_no_error_of_ours() -> None:
    with OnvifCamera() as camera:
        camera.streams = list(STREAMS)
        camera.clock = "9" * 30 + "-05-06T07:08:09"
        with pytest.raises(CameraError, match="refuses this user"):
            streams(service_of(camera.address), "admin", "geheim")


def test_a_size_without_end_is_none() -> None:
    with OnvifCamera() as camera:
        encoding = "H264</t:Encoding><t:Width>" + "9" * 5000 + "</t:Width><t:Encoding>"
        camera.streams = [("p0", encoding, 640, 480, "rtsp://cam/s0")]
        (stream,) = streams(service_of(camera.address), "admin", "geheim")
    assert (stream.width, stream.height) == (0, 480)


def test_a_wrong_password_is_refused_and_not_told() -> None:
    with OnvifCamera() as camera:
        camera.streams = list(STREAMS)
        with pytest.raises(CameraError, match="refuses this user; are user and password") as caught:
            streams(service_of(camera.address), "admin", "hush")
    assert "hush" not in str(caught.value)
    assert "hush" not in camera.sent


def test_a_stream_whose_address_holds_the_password_is_refused() -> None:
    with OnvifCamera() as camera:
        camera.streams = [("p0", "H264", 640, 480, "rtsp://cam/user=admin_password=geheim_c=1")]
        with pytest.raises(CameraError, match="hold the password, which no configuration may") as e:
            streams(service_of(camera.address), "admin", "geheim")
    assert "password=geheim" not in str(e.value)


def test_an_address_where_nobody_answers_is_said() -> None:
    with pytest.raises(
        CameraError,
        match=r"^http://127.0.0.1:1/onvif/device_service: Connection refused; is ONVIF on in",
    ):
        streams(service_of("127.0.0.1:1"), None, None)


def test_a_name_without_an_address_is_said() -> None:
    with pytest.raises(CameraError, match=r"^http://no-camera\.invalid/.*: has no address; check"):
        streams(service_of("no-camera.invalid"), None, None)


def test_who_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soap, "_TIMEOUT_S", 0.2)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(CameraError, match=r"does not answer within 0\.2 s; is it on, and in this"),
    ):
        streams(service_of(f"127.0.0.1:{silent.getsockname()[1]}"), None, None)


def test_what_is_no_web_server_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(b"220 mail.lan ESMTP\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(CameraError, match="does not speak HTTP; is this the port of its ONVIF"):
            streams(service_of(f"127.0.0.1:{server.getsockname()[1]}"), None, None)
        thread.join()


@pytest.mark.parametrize("host", ["no-camera.invalid", "255.255.255.255", "a" * 70 + ".lan"])
def test_an_address_that_cannot_be_asked_is_said(host: str) -> None:
    with pytest.raises(CameraError, match=r"^[a-z0-9.-]+: is no name or IPv4 address of a camera"):
        discover(0.1, [(host, 3702)])


@pytest.mark.parametrize("address", ["", "me@cam.lan", "cam.lan:none", "cam.lan:0"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(CameraError, match="must be a camera's name or address"):
        service_of(address)


@pytest.mark.parametrize(
    "data",
    [
        b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><a>&x;</a>',
        '<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE a []><a/>'.encode("utf-16"),
        b"",
        b"\xff\xfe\x00",
        b"<a>" * 100_000,
        b"<a>" + b" " * MOST_BYTES + b"</a>",
    ],
)
def test_xml_of_strangers_is_read_without_document_types_and_to_a_limit(data: bytes) -> None:
    with pytest.raises(CameraError, match="its answer is"):
        parse(data, "cam")
