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


def why_unreachable(error: OSError, config: MqttConfig) -> Lost:
    """Return why no connection could be made, TLS included."""
    where = f"{config.host}:{config.tcp_port}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return Lost(
            "tls",
            f"certificate of {where} is not trusted: {error.verify_message}",
            "name its authority in mqtt.ca_file, and the host as the certificate does",
        )
    if isinstance(error, ssl.SSLError):
        return Lost(
            "tls", f"no TLS with {where}: {error.reason or error}", "check mqtt.port and mqtt.tls"
        )
    if isinstance(error, socket.gaierror):
        return Lost("unreachable", f"{config.host} has no address: {error.strerror}")
    why = f"{where} cannot be reached: {error.strerror or error}"
    if config.uses_tls and isinstance(error, ConnectionResetError):
        why += "; if that port has no TLS, name one that has, or set mqtt.tls to false (--no-tls)"
    return Lost("unreachable", why)


def why_refused(reason: ReasonCode, config: MqttConfig) -> Lost:
    """Return why the broker did not accept the connection; `reason` is that of its CONNACK."""
    do = "see the broker's log"
    if reason.value in (_BAD_CREDENTIALS, _NOT_AUTHORISED):
        do = "check mqtt.username and what mqtt.password_file holds against the broker's users"
    elif reason.value == _UNSUPPORTED_PROTOCOL:
        do = f'set mqtt.protocol to the other of "5" and "3.1.1", it is "{config.protocol}"'
    return Lost("refused", f"broker refuses this client: {reason}", do)
