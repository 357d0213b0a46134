"""A camera that speaks WS-Discovery over UDP and ONVIF over HTTP, on loopback."""

import base64
import hashlib
import http.server
import re
import socket
import threading
from typing import Self
from xml.etree import ElementTree

_SOAP = (
    '<?xml version="1.0" encoding="UTF-8"?><s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-'
    'envelope" xmlns:t="http://www.onvif.org/ver10/schema" xmlns:d="http://schemas.xmlsoap.org/ws/'
    '2005/04/discovery"><s:Body>{}</s:Body></s:Envelope>'
)
_REFUSAL = (
    "<s:Fault><s:Code><s:Value>s:Sender</s:Value><s:Subcode><s:Value>ter:NotAuthorized</s:Value>"
    "</s:Subcode></s:Code><s:Reason><s:Text>Sender not Authorized</s:Text></s:Reason></s:Fault>"
)


class OnvifCamera:
    """Answers what is asked of it, to who knows the password.

    Attributes:
        streams: Token, encoding, width, height and address of each stream.
        asked: The calls that came, in order.
        sent: All that came, as it was sent.
    """

    def __init__(self, user: str = "admin", password: str = "geheim") -> None:
        self.user, self.password = user, password
        self.streams: list[tuple[str, str, int, int, str]] = []
        self.asked: list[str] = []
        self.sent = ""
        self.clock = "2031-05-06T07:08:09"
        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Service)
        self._http.camera = self  # type: ignore[attr-defined]
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", 0))
        self.discovery_port = int(self._udp.getsockname()[1])
        self.matches: list[str] | None = None
        self._threads = [
            threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True),
            threading.Thread(target=self._answer_probes, daemon=True),
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._udp.sendto(b"", ("127.0.0.1", self.discovery_port))
        self._threads[1].join()
        self._udp.close()

    @property
    def address(self) -> str:
        """Host and port of its HTTP service."""
        return f"127.0.0.1:{self._http.server_address[1]}"

    def _answer_probes(self) -> None:
        while True:
            data, asker = self._udp.recvfrom(65535)
            if not data:
                return
            probe = ElementTree.fromstring(data)
            assert "NetworkVideoTransmitter" in ElementTree.tostring(probe, "unicode")
            # Like many behind a router, it names an address that is not its own.
            port = self.address.rpartition(":")[2]
            match = (
                "<d:ProbeMatches><d:ProbeMatch><d:Types>n:NetworkVideoTransmitter</d:Types>"
                "<d:Scopes>onvif://www.onvif.org/name/ACME onvif://www.onvif.org/hardware/IPC%207"
                f"</d:Scopes><d:XAddrs>http://10.0.0.9:{port}/onvif/device_service</d:XAddrs>"
                "</d:ProbeMatch></d:ProbeMatches>"
            )
            for answer in [_SOAP.format(match)] if self.matches is None else self.matches:
                self._udp.sendto(answer.encode(), asker)

    def answer(self, call: str, token: str) -> str:
        """Return the body that answers a call."""
        match call:
            case "GetCapabilities":
                service = "http://10.0.0.9:{}/onvif/media_service"
                where = service.format(self.address.rpartition(":")[2])
                return f"<Capabilities><t:Media><t:XAddr>{where}</t:XAddr></t:Media></Capabilities>"
            case "GetProfiles":
                profiles = (
                    f'<Profiles token="{name}"><t:Encoding>{encoding}</t:Encoding><t:Resolution>'
                    f"<t:Width>{width}</t:Width><t:Height>{height}</t:Height></t:Resolution>"
                    "</Profiles>"
                    for name, encoding, width, height, _ in self.streams
                )
                return f"<GetProfilesResponse>{''.join(profiles)}</GetProfilesResponse>"
            case "GetStreamUri":
                uri = next(stream[4] for stream in self.streams if stream[0] == token)
                return f"<MediaUri><t:Uri>{uri.replace('&', '&amp;')}</t:Uri></MediaUri>"
            case "GetSystemDateAndTime":
                date, time = self.clock.split("T")
                names = (("Year", "Month", "Day"), ("Hour", "Minute", "Second"))
                parts = (date.split("-"), time.split(":"))
                return "<t:UTCDateTime>{}</t:UTCDateTime>".format(
                    "".join(
                        f"<t:{name}>{int(value)}</t:{name}>"
                        for pair in zip(names, parts, strict=True)
                        for name, value in zip(*pair, strict=True)
                    )
                )
        raise AssertionError(call)


class _Service(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        camera: OnvifCamera = self.server.camera  # type: ignore[attr-defined]
        data = self.rfile.read(int(self.headers["Content-Length"]))
        camera.sent += f"{self.headers}{data.decode()}"
        body = ElementTree.fromstring(data).find("{http://www.w3.org/2003/05/soap-envelope}Body")
        assert body is not None
        call = body[0].tag.rpartition("}")[2]
        token = body[0].findtext("{http://www.onvif.org/ver10/media/wsdl}ProfileToken") or ""
        is_open = call == "GetSystemDateAndTime"
        if not is_open and not _is_allowed(data.decode(), camera):
            self._send(400, _REFUSAL)
            return
        camera.asked.append(call)
        self._send(200, camera.answer(call, token))

    def _send(self, status: int, body: str) -> None:
        data = _SOAP.format(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/soap+xml")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


def _is_allowed(request: str, camera: OnvifCamera) -> bool:
    """Return whether a request carries the right digest, of a time near the camera's own."""
    parts = {
        name: re.search(rf"<\w+:{name}(?: [^>]*)?>([^<]*)<", request)
        for name in ("Username", "Password", "Nonce", "Created")
    }
    said = {name: found.group(1) for name, found in parts.items() if found}
    if len(said) < 4 or said["Created"][:13] != camera.clock[:13]:
        return False
    joined = base64.b64decode(said["Nonce"]) + said["Created"].encode() + camera.password.encode()
    digest = base64.b64encode(hashlib.sha1(joined).digest()).decode()
    return said["Username"] == camera.user and said["Password"] == digest
