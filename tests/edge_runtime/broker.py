"""A real mosquitto on loopback, and a subscriber that collects: `with Broker(folder) as broker`."""

import datetime
import ipaddress
import itertools
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from transom.config import MqttConfig

STARTS_WITHIN_S = 10.0
_numbers = itertools.count(1)


def require_mosquitto() -> None:
    """Skip where there is no broker to test with; in CI that is a failure."""
    for program in ("mosquitto", "mosquitto_sub", "mosquitto_passwd"):
        if shutil.which(program) is None:
            text = f"{program} is not installed: apt-get install mosquitto mosquitto-clients"
            pytest.fail(text) if os.environ.get("CI") else pytest.skip(text)


_MOST_PORTS = 100
_held: deque[socket.socket] = deque()


def free_port() -> int:
    """Return a port that nobody else is given, for a server to listen on.

    A socket that is bound and does not listen holds it: the system gives it to nobody, and a server
    that sets SO_REUSEADDR, as every one here does, may listen beside it.
    """
    if len(_held) == _MOST_PORTS:
        _held.popleft().close()
    probe = socket.socket()
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    probe.bind(("127.0.0.1", 0))
    _held.append(probe)
    return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], Any], within_s: float = 10.0) -> Any:
    """Return what `condition` returns as soon as it is true; fail where it never is."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        outcome = condition()
        if outcome:
            return outcome
        time.sleep(0.005)
    raise AssertionError(f"not within {within_s} s: {condition}")


class Broker:
    """A mosquitto that a test starts, stops, freezes, kills and starts again.

    Args:
        folder: Where its files go.
        users: Passwords by user; none = anybody may connect.
        access: Lines of an access list, like `user hall` and `topic write transom/hall/#`.
        certificates: What it shows, for TLS.
        requires_certificate: Whether clients must show one of the same authority.
        persistence: Whether retained messages and sessions outlive the process.
        address: Where it listens beside the loopback, in a network of its own.
    """

    def __init__(
        self,
        folder: Path,
        *,
        users: dict[str, str] | None = None,
        access: Sequence[str] = (),
        certificates: "Certificates | None" = None,
        requires_certificate: bool = False,
        persistence: bool = False,
        options: Sequence[str] = (),
        address: str | None = None,
    ) -> None:
        require_mosquitto()
        self.port = free_port()
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._certificates = certificates
        folder.mkdir(parents=True, exist_ok=True)
        lines = [f"listener {self.port} {where}" for where in ("127.0.0.1", address) if where]
        lines += ["log_type all", "set_tcp_nodelay true"]
        lines += [f"allow_anonymous {'false' if users else 'true'}", *options]
        if os.geteuid() == 0:
            lines.append("user root")  # it would give up its rights and not read its own files
        if users:
            self.set_users(users)
            lines.append(f"password_file {folder / 'passwords'}")
        if access:
            (folder / "access").write_text("\n".join(access) + "\n")
            (folder / "access").chmod(0o600)
            lines.append(f"acl_file {folder / 'access'}")
        if certificates is not None:
            lines += [f"certfile {certificates.server}", f"keyfile {certificates.server_key}"]
            lines += [f"cafile {certificates.authority}"]
            lines += [f"require_certificate {'true' if requires_certificate else 'false'}"]
        if persistence:
            lines += ["persistence true", f"persistence_location {folder}/", "autosave_interval 1"]
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")

    def set_users(self, users: dict[str, str]) -> None:
        passwords = self.folder / "passwords"
        passwords.write_text("".join(f"{name}:{password}\n" for name, password in users.items()))
        passwords.chmod(0o600)
        subprocess.run(["mosquitto_passwd", "-U", passwords], check=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def config(self, **more: Any) -> MqttConfig:
        """How to reach it, as a device's configuration says it."""
        tls = self._certificates is not None
        return MqttConfig(host="localhost", port=self.port, tls=tls, **more)

    def start(self) -> None:
        log = (self.folder / "mosquitto.log").open("ab")
        self._process = subprocess.Popen(
            ["mosquitto", "-c", self.folder / "mosquitto.conf"], stdout=log, stderr=log
        )
        log.close()
        wait_until(self._listens, STARTS_WITHIN_S)

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "mosquitto.log").read_text()
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1.0).close()
        except ConnectionRefusedError:
            return False
        return True

    def stop(self) -> None:
        """End it in an orderly way."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut does."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)
        self._process.send_signal(signal.SIGCONT)
        self._process.wait(10.0)
        self._process = None

    def freeze(self) -> None:
        """Let it hold its connections and answer nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def log(self) -> str:
        return (self.folder / "mosquitto.log").read_text("utf-8", "replace")

    def publish(
        self,
        topic: str,
        payload: str,
        *,
        retain: bool = False,
        user: str | None = None,
        password: str | None = None,
        certificates: "Certificates | None" = None,
    ) -> None:
        """Say something as somebody else, with QoS 1."""
        command = ["mosquitto_pub", "-h", "localhost", "-p", str(self.port), "-q", "1"]
        command += ["-r"] if retain else []
        command += ["-u", user, "-P", password or ""] if user is not None else []
        command += [] if certificates is None else ["--cafile", str(certificates.authority)]
        subprocess.run([*command, "-t", topic, "-m", payload], check=True)

    @contextmanager
    def subscriber(
        self,
        topic_filter: str = "#",
        user: str | None = None,
        password: str | None = None,
        *,
        is_lasting: bool = False,
    ) -> Iterator["Subscriber"]:
        """Collect what a subscriber with QoS 1 receives; ready when the block begins.

        One that is lasting gets, after the broker was away, what came in between.
        """
        name = f"subscriber-{next(_numbers)}"
        command = ["mosquitto_sub", "-h", "localhost", "-p", str(self.port), "-i", name]
        command += ["-q", "1", "-V", "mqttv5", "-t", topic_filter, "-F", "%j"]
        command += ["-c", "-x", "86400"] if is_lasting else []
        if user is not None:
            command += ["-u", user, "-P", password or ""]
        if self._certificates is not None:
            command += ["--cafile", str(self._certificates.authority)]
            command += ["--cert", str(self._certificates.client)]
            command += ["--key", str(self._certificates.client_key)]
        # A payload need not be text: a snapshot is a JPEG.
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace")
        subscriber = Subscriber(process)
        try:
            wait_until(lambda: f"Sending SUBACK to {name}" in self.log())
            yield subscriber
        finally:
            process.kill()
            process.wait()
            subscriber.reader.join(5.0)
            assert process.stdout is not None
            process.stdout.close()


@dataclass(frozen=True)
class Copy:
    """A message as a subscriber got it."""

    topic: str
    payload: Any
    retain: bool
    qos: int


class Subscriber:
    """What `mosquitto_sub` has printed so far."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._copies: list[Copy] = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            raw = json.loads(line)
            copy = Copy(raw["topic"], raw.get("payload"), bool(raw["retain"]), raw["qos"])
            self._copies.append(copy)

    def copies(self, topic: str | None = None) -> list[Copy]:
        return [copy for copy in list(self._copies) if topic in (None, copy.topic)]

    def payloads(self, topic: str | None = None) -> list[Any]:
        return [copy.payload for copy in self.copies(topic)]

    def wait_for(self, topic: str, payload: Any = None, within_s: float = 10.0) -> Copy:
        """Return the first copy on `topic` (with `payload`, if given)."""

        def found() -> Copy | None:
            wanted = [c for c in self.copies(topic) if payload is None or c.payload == payload]
            return wanted[0] if wanted else None

        return wait_until(found, within_s)


@dataclass(frozen=True)
class Certificates:
    """Paths of PEM files: an authority, what it gave to the broker and to a client."""

    authority: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path

    def serve(self, listening: socket.socket) -> socket.socket:
        """Return a socket that serves TLS as the server.

        The handshake is left to whoever has the connection: one that fails must not leave its
        socket to nobody.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server, self.server_key)
        return context.wrap_socket(listening, server_side=True, do_handshake_on_connect=False)


def make_certificates(
    folder: Path, host: str = "localhost", *, are_expired: bool = False
) -> Certificates:
    """Make an authority and two certificates of it, which count for a day or no longer do."""
    until = datetime.timedelta(hours=-1) if are_expired else datetime.timedelta(days=1)
    folder.mkdir(parents=True, exist_ok=True)
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("authority", authority_key, None, authority_key, host, until)
    files = {"authority": authority.public_bytes(serialization.Encoding.PEM)}
    for name in ("server", "client"):
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _certificate(name, key, authority, authority_key, host, until)
        files[name] = certificate.public_bytes(serialization.Encoding.PEM)
        files[f"{name}_key"] = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    for name, data in files.items():
        (folder / f"{name}.pem").write_bytes(data)
        (folder / f"{name}.pem").chmod(0o600)
    return Certificates(**{name: folder / f"{name}.pem" for name in files})


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
    issuer_key: ec.EllipticCurvePrivateKey,
    host: str,
    until: datetime.timedelta,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + until)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if name == "server":
        names: list[x509.GeneralName] = [x509.DNSName(host)]
        if host == "localhost":
            names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())
