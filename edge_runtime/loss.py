"""Why a connection to a broker failed or ended: what is said of it, and what people can do."""

import socket
import ssl
from dataclasses import dataclass

from paho.mqtt.reasoncodes import ReasonCode

from transom.config import MqttConfig

ONE_NAME_EACH = "if another client has the same id, give each device its own name"

_UNSUPPORTED_PROTOCOL = 0x84
_BAD_CREDENTIALS = 0x86
_NOT_AUTHORISED = 0x87


@dataclass(frozen=True)
class Lost:
    """The connection has ended, or was never accepted.

    Attributes:
        cause: `refused`, `unreachable`, `tls` or `lost`; what logs are told apart by.
        reason: Why, for people.
        do: What they can do about it; may be empty.
    """

    cause: str
    reason: str
    do: str = ""

    def __str__(self) -> str:
        return f"{self.reason}; {self.do}" if self.do else self.reason


@dataclass(frozen=True)
class Called:
    """How whoever named a broker says each thing about it; the defaults are a configuration's."""

    host: str = "mqtt.host"
    port: str = "mqtt.port"
    tls: str = "mqtt.tls"
    no_tls: str = "mqtt.tls = false"
    ca_file: str = "mqtt.ca_file"
    username: str = "mqtt.username"
    password_file: str = "mqtt.password_file"  # noqa: S105 - a key
    protocol: str = "mqtt.protocol"


def why_unreachable(error: OSError, config: MqttConfig, called: Called) -> Lost:
    """Return why no connection could be made, TLS included."""
    where = f"{config.host}:{config.tcp_port}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return Lost(
            "tls",
            f"certificate of {where} is not trusted: {error.verify_message}",
            f"name its authority in {called.ca_file}, and the host as the certificate does",
        )
    if isinstance(error, ssl.SSLError):
        why = f"no TLS with {where}: {error.reason or error}"
        return Lost("tls", why, f"check {called.port} and {called.tls}")
    if isinstance(error, socket.gaierror):
        return Lost("unreachable", f"{config.host} has no address: {error.strerror}")
    why = f"{where} cannot be reached: {error.strerror or error}"
    if config.uses_tls and isinstance(error, ConnectionResetError):
        why += f"; if that port has no TLS, name one that has, or give {called.no_tls}"
    return Lost("unreachable", why)


def why_refused(reason: ReasonCode, config: MqttConfig, called: Called) -> Lost:
    """Return why the broker did not accept the connection; `reason` is that of its CONNACK."""
    do = "see the broker's log"
    if reason.value in (_BAD_CREDENTIALS, _NOT_AUTHORISED):
        user, secret = called.username, called.password_file
        do = f"check {user} and what {secret} holds against the broker's users"
    elif reason.value == _UNSUPPORTED_PROTOCOL:
        do = f'set {called.protocol} to the other of "5" and "3.1.1", it is "{config.protocol}"'
    return Lost("refused", f"broker refuses this client: {reason}", do)
