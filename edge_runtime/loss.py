"""Why a connection to a broker failed or ended: what is said of it, and what people can do."""

import logging
import socket
import ssl
from dataclasses import dataclass

from paho.mqtt.reasoncodes import ReasonCode

from transom.config import MqttConfig

_log = logging.getLogger(__name__)

STABLE_AFTER_S = 10.0
"""A connection that lasted this long has ended for a new reason, which is worth a log line."""

ONE_NAME_EACH = "if another client has the same id, give each device its own name"

_OUT_OF_TIME = {  # by OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED
    9: "set this machine's clock, which is behind: timedatectl status",
    10: "renew it, if this machine's clock is right: timedatectl status",
}
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
            _OUT_OF_TIME.get(
                error.verify_code,
                f"name its authority in {called.ca_file}, and the host as the certificate does",
            ),
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


class Troubles:
    """Tells the log about the broker once per change, not once per attempt."""

    def __init__(self) -> None:
        self._told: set[str] = set()
        self._away_since_s: float | None = None
        self._attempts = 0

    def connected(self, config: MqttConfig, now_s: float) -> None:
        """Take in that the broker has accepted a connection."""
        level = logging.DEBUG if "flapping" in self._told else logging.INFO
        if self._away_since_s is None:
            _log.log(level, "broker connected host=%s port=%d", config.host, config.tcp_port)
        else:
            away_s = now_s - self._away_since_s
            _log.log(level, "broker is back away_s=%.1f attempts=%d", away_s, self._attempts)
        self._away_since_s = None
        self._attempts = 0

    def watch(self, up_since_s: float | None, now_s: float) -> None:
        """Forget what was told once the connection holds."""
        if self._told and up_since_s is not None and now_s - up_since_s >= STABLE_AFTER_S:
            if "flapping" in self._told:
                _log.info("broker holds the connection again up_s=%.1f", now_s - up_since_s)
            self._told.clear()

    def lost(self, loss: Lost, up_since_s: float | None, now_s: float) -> None:
        """Take in that a connection has ended, or was never accepted: `up_since_s` is None."""
        if self._away_since_s is None:
            self._away_since_s = now_s
        self._attempts += 1
        if up_since_s is None:
            self._tell(loss.cause, "broker not reached: %s", loss)
        elif not self._told:
            self._told = {"unreachable"}  # what the loss says already
            _log.warning("broker lost: %s", loss)
        else:
            hint = Lost(loss.cause, loss.reason, loss.do or ONE_NAME_EACH)
            self._tell("flapping", "broker lost again within seconds: %s", hint)

    def _tell(self, cause: str, text: str, loss: Lost) -> None:
        level = logging.DEBUG if cause in self._told else logging.WARNING
        self._told.add(cause)
        _log.log(level, text, loss)
