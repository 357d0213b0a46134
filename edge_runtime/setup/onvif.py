"""Cameras that speak ONVIF: found on the local network, asked where their streams are.

What a camera says is taken as a proposal. Its streams are looked for at the address it answered
from, whatever it calls itself: cameras behind a router or after a move name the wrong one, and a
password must not go where somebody else's answer points.
"""

import contextlib
import socket
import struct
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote, urlsplit, urlunsplit
from xml.sax.saxutils import escape

from edge_runtime.setup.soap import Credentials, call, envelope, named, parse, text_of
from transom.errors import CameraError

GROUP = ("239.255.255.250", 3702)
"""WS-Discovery's multicast group and port."""
SERVICE_PATH = "/onvif/device_service"

_ADDRESSING = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
_DISCOVERY = "http://schemas.xmlsoap.org/ws/2005/04/discovery"
_SCHEMA = "http://www.onvif.org/ver10/schema"
_DEVICE = "http://www.onvif.org/ver10/device/wsdl"
_MEDIA = "http://www.onvif.org/ver10/media/wsdl"
_NETWORK = "http://www.onvif.org/ver10/network/wsdl"
_MOST_CAMERAS = 64
_DATAGRAM_BYTES = 65535
_LEAST_WIDTH_PX = 640
_MOST_DIGITS = 5


@dataclass(frozen=True)
class Found:
    """A camera that answered.

    Attributes:
        host: Where it answered from.
        service: URL of its device service, at that host.
        name: What it calls itself; empty = nothing.
    """

    host: str
    service: str
    name: str


@dataclass(frozen=True)
class Stream:
    """A stream of a camera.

    Attributes:
        source: As `source` of a configuration has it; no user and no password is in it.
        encoding: Like `H264`; empty = not said.
        width: Pixels; 0 = not said.
        height: Pixels; 0 = not said.
    """

    source: str
    encoding: str
    width: int
    height: int


def discover(seconds: float = 2.0, ask: Iterable[tuple[str, int]] = (GROUP,)) -> list[Found]:
    """Return the cameras that answer a question to the whole network.

    Args:
        seconds: For how long answers are waited for.
        ask: Addresses (IPv4) and ports; the group, or cameras in other networks.

    Raises:
        CameraError: One that is named cannot be asked, like a name without an address.

    References:
        WS-Discovery (April 2005), 5; ONVIF Core Specification, 7.3.
    """
    probe = _probe()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.bind(("", 0))
        for address in ask:
            for _ in _each_network(asking, address):
                _send(asking, probe, address)
        found: dict[str, Found] = {}
        for host, data in _datagrams(asking, seconds):
            camera = _read_match(host, data)
            if camera is not None and len(found) < _MOST_CAMERAS:
                found.setdefault(camera.service, camera)
    return list(found.values())


def _send(asking: socket.socket, probe: bytes, address: tuple[str, int]) -> None:
    """Ask one address; of the networks that the group is asked in some have no route.

    Raises:
        CameraError: An address that somebody named cannot be asked.
    """
    try:
        asking.sendto(probe, address)
    except (OSError, UnicodeError) as error:
        if address == GROUP:
            return
        if isinstance(error, PermissionError | socket.gaierror | UnicodeError):
            why = "is no name or IPv4 address of a camera; check it"
        else:
            why = (
                f"cannot be asked: {error.strerror}; is this machine in a network that leads to it?"
            )
        raise CameraError(f"{address[0]}: {why}") from error


def _probe() -> bytes:
    header = (
        f'<a:Action xmlns:a="{_ADDRESSING}">{_DISCOVERY}/Probe</a:Action>'
        f'<a:MessageID xmlns:a="{_ADDRESSING}">uuid:{uuid.uuid4()}</a:MessageID>'
        f'<a:To xmlns:a="{_ADDRESSING}">urn:schemas-xmlsoap-org:ws:2005:04:discovery</a:To>'
    )
    types = f'<d:Types xmlns:n="{_NETWORK}">n:NetworkVideoTransmitter</d:Types>'
    return envelope(f'<d:Probe xmlns:d="{_DISCOVERY}">{types}</d:Probe>', header)


def _each_network(asking: socket.socket, address: tuple[str, int]) -> Iterator[None]:
    """Have the socket send into one network after the other, where the address is the group."""
    if address != GROUP:
        yield
        return
    asking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
    for index, _name in socket.if_nameindex():
        with contextlib.suppress(OSError):  # an interface without an address
            where = struct.pack("=4s4si", b"", b"", index)
            asking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, where)
            yield


def _datagrams(asking: socket.socket, seconds: float) -> Iterator[tuple[str, bytes]]:
    until_s = time.monotonic() + seconds
    while (left_s := until_s - time.monotonic()) > 0.0:
        asking.settimeout(left_s)
        try:
            data, (host, _port) = asking.recvfrom(_DATAGRAM_BYTES)
        except TimeoutError:
            return
        except OSError:
            continue  # a host that was asked says that nobody listens
        yield host, data


def _read_match(host: str, data: bytes) -> Found | None:
    """Return the camera that a datagram tells of; None where it tells of none."""
    try:
        answer = parse(data, host)
    except CameraError:
        return None
    addresses = text_of(answer, "XAddrs").split()
    services = [at_host(url, host) for url in addresses if url.startswith(("http://", "https://"))]
    service = next((url for url in services if url), None)
    return Found(host, service, _name(text_of(answer, "Scopes"))) if service else None


def _name(scopes: str) -> str:
    said = {
        kind: unquote(scope.rpartition("/")[2])
        for scope in scopes.split()
        for kind in ("name", "hardware")
        if f"/{kind}/" in scope
    }
    return " ".join(dict.fromkeys(said[kind] for kind in ("name", "hardware") if said.get(kind)))


def at_host(url: str, host: str) -> str | None:
    """Return a URL with another host, without user and fragment; None where it is no URL.

    Examples:
        >>> at_host("rtsp://me@10.0.0.9:554/s1?c=1", "192.168.1.20")
        'rtsp://192.168.1.20:554/s1?c=1'
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if not parts.hostname or not url.isprintable():
        return None
    shown = f"[{host}]" if ":" in host else host
    netloc = shown if port is None else f"{shown}:{port}"
    return urlunsplit((parts.scheme, netloc, parts.path, parts.query, ""))


def service_of(address: str) -> str:
    """Return the URL of the device service of a camera that a person names by host, or host:port.

    Raises:
        CameraError: That is no address.
    """
    try:
        parts = urlsplit(f"//{address}")
        is_address = bool(parts.hostname) and parts.username is None and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        raise CameraError(f"onvif://{address}: must be a camera's name or address, like cam.lan")
    path = parts.path if len(parts.path) > 1 else SERVICE_PATH
    return urlunsplit(("http", parts.netloc, path, "", ""))


def streams(service: str, username: str | None, secret: str | None) -> list[Stream]:
    """Return the streams of a camera, the one that suits Transom best first.

    Args:
        service: URL of its device service.
        username: Of one of its ONVIF users; None = ask without.
        secret: The password.

    Raises:
        CameraError: It does not tell.
    """
    host = urlsplit(service).hostname or ""
    credentials = None
    if username is not None:
        credentials = Credentials(username, secret or "", _clock_ahead(service))
    media = _media_service(service, host, credentials)
    profiles = call(media, f'<GetProfiles xmlns="{_MEDIA}"/>', credentials)
    found = []
    for profile in named(profiles, "Profiles"):
        uri = _stream_uri(media, profile.get("token", ""), credentials)
        source = at_host(uri, host)
        if source is None or not source.startswith(("rtsp://", "rtsps://")):
            continue
        _refuse_secret(source, service, secret)
        width, height = (_pixels(text_of(profile, name)) for name in ("Width", "Height"))
        found.append(Stream(source, text_of(profile, "Encoding"), width, height))
    if not found:
        raise CameraError(
            f"{service}: names no RTSP stream; give its address, like rtsp://{host}/…"
        )
    return sorted(dict.fromkeys(found), key=_fitness)


def _pixels(text: str) -> int:
    """Return a number of pixels; 0 where a camera says none that can be."""
    return int(text) if text.isdecimal() and len(text) <= _MOST_DIGITS else 0


def _fitness(stream: Stream) -> tuple[bool, bool, int]:
    """Return what is less for a better stream: one that costs little, yet shows a door's gap."""
    is_small = stream.width < _LEAST_WIDTH_PX
    return (
        stream.encoding.upper() not in ("H264", "JPEG"),  # a Pi decodes others slowly
        is_small,
        -stream.width if is_small else stream.width,
    )


def _clock_ahead(service: str) -> timedelta:
    """Return how far the camera's clock is ahead: a token with another time than its is refused."""
    answer = call(service, f'<GetSystemDateAndTime xmlns="{_DEVICE}"/>')
    utc = next(named(answer, "UTCDateTime"), None)
    if utc is None:
        return timedelta()
    try:
        parts = [
            int(text_of(utc, name)) for name in ("Year", "Month", "Day", "Hour", "Minute", "Second")
        ]
        return datetime(*parts, tzinfo=UTC) - datetime.now(UTC)  # type: ignore[misc,arg-type]
    except (ValueError, OverflowError):  # no date, or one that no calendar has
        return timedelta()


def _media_service(service: str, host: str, credentials: Credentials | None) -> str:
    body = f'<GetCapabilities xmlns="{_DEVICE}"><Category>Media</Category></GetCapabilities>'
    answer = call(service, body, credentials)
    media = next(named(answer, "Media"), None)
    return at_host("" if media is None else text_of(media, "XAddr"), host) or service


def _stream_uri(media: str, token: str, credentials: Credentials | None) -> str:
    setup = (
        f'<StreamSetup><Stream xmlns="{_SCHEMA}">RTP-Unicast</Stream>'
        f'<Transport xmlns="{_SCHEMA}"><Protocol>RTSP</Protocol></Transport></StreamSetup>'
    )
    profile = f"<ProfileToken>{escape(token)}</ProfileToken>"
    body = f'<GetStreamUri xmlns="{_MEDIA}">{setup}{profile}</GetStreamUri>'
    return text_of(call(media, body, credentials), "Uri")


def _refuse_secret(source: str, service: str, secret: str | None) -> None:
    """Refuse an address that holds the password: the configuration may not.

    Raises:
        CameraError: It does.
    """
    if secret and secret in unquote(source):
        raise CameraError(
            f"{service}: its streams' addresses hold the password, which no configuration may; "
            "make a user for RTSP on the camera, and give the address by hand"
        )
