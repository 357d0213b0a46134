"""One connection to an MQTT broker: how it is opened, driven by one thread, and why it failed.

The daemon, `transom watch` and `transom doctor` all reach the broker through this. paho runs
without its own thread: its callbacks only note what happened, and whoever calls `turn` reads the
notes. A connection that ended is never opened again; the next one is a new `Link`, so nothing of
the old one (queued messages, half-read packets, a ping that was never answered) lives on.
"""

import select
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import paho.mqtt.client as paho
from paho.mqtt import MQTTException
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge_runtime.clock import Clock
from edge_runtime.loss import ONE_NAME_EACH, Called, Lost, why_refused, why_unreachable
from edge_runtime.wake import Wake
from transom.config import MqttConfig
from transom.errors import ConfigurationError
from transom.messages import Message
from transom.secret import find_secret, read_secret

CONNECT_TIMEOUT_S = 5.0
"""For the TCP connection and again for the TLS handshake."""

CONNACK_TIMEOUT_S = 10.0
MAX_PACKET_BYTES = 1 << 20
"""What a broker may send at once (MQTT 5): a snapshot, the discovery of many zones. Without a limit
anybody who may publish could have 256 MB put together in memory here."""

SESSION_EXPIRY_S = 3600
"""How long the broker keeps the subscriptions of a client that is away (MQTT 5)."""

_SESSION_TAKEN_OVER = 0x8E
_QUOTA_EXCEEDED = 0x97
_NO_MQTT = (ValueError, LookupError, struct.error, MQTTException)
"""What paho raises on bytes that are not MQTT."""


@dataclass(frozen=True)
class Access:
    """All that is needed to reach a broker.

    Attributes:
        config: Host, port, protocol, keepalive.
        secret: The password; never shown.
        tls: How to encrypt; None = not at all.
        called: How whoever named the broker says what can be wrong with it.
    """

    config: MqttConfig
    secret: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = None
    called: Called = field(default_factory=Called)


@dataclass(frozen=True)
class Connected:
    """The broker has accepted the connection.

    Attributes:
        window: Messages that the broker takes unacknowledged.
        max_packet_bytes: The largest packet it takes; None = no limit.
    """

    window: int
    max_packet_bytes: int | None


@dataclass(frozen=True)
class Acknowledged:
    """The broker has answered a publication; `refusal` is None where it took it."""

    mid: int
    refusal: str | None
    is_temporary: bool = False


@dataclass(frozen=True)
class Subscribed:
    """The broker has answered a subscription; `refusal` is None where it took it."""

    mid: int
    refusal: str | None


@dataclass(frozen=True)
class Received:
    """A message has come.

    Attributes:
        mid: Its id, by which `Link.acknowledge` answers it.
    """

    topic: str
    payload: bytes
    retain: bool
    mid: int = 0


Take = Callable[[Received], None]
"""Called in the connection's thread with a message that has come: it may only put it aside."""


Happening = Connected | Acknowledged | Subscribed | Received | Lost


def read_access(config: MqttConfig, configuration: Path) -> Access:
    """Read the password and the certificates that a configuration file names.

    Args:
        config: The file's `[mqtt]`.
        configuration: The file; relative paths start at its folder.

    Raises:
        ConfigurationError: One of them is missing or no certificate.
    """
    secret = read_secret(config.password_file, configuration) if config.password_file else None
    return Access(config, secret, read_tls(config, configuration))


def read_tls(config: MqttConfig, configuration: Path) -> ssl.SSLContext | None:
    """Return how to encrypt: certificate and host name are always checked; None = plain.

    Raises:
        ConfigurationError: A file is missing or holds no certificate or key.
    """
    if not config.uses_tls:
        return None
    try:
        ca = find_secret(config.ca_file, configuration, "ca_file") if config.ca_file else None
        context = ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise ConfigurationError(
            f"{configuration}: ca_file {config.ca_file!r} must hold certificates in PEM: {error}"
        ) from error
    if config.certificate_file and config.key_file:
        certificate = find_secret(config.certificate_file, configuration, "certificate_file")
        key = find_secret(config.key_file, configuration, "key_file")
        try:
            # An encrypted key must fail, not ask a terminal that nobody watches.
            context.load_cert_chain(certificate, key, password=lambda: b"")
        except OSError as error:
            raise ConfigurationError(
                f"{configuration}: certificate_file {config.certificate_file!r} and its key_file "
                f"must be a certificate and its unencrypted key in PEM: {error}"
            ) from error
    return context


class Link:
    """One connection. Only one thread may use it.

    Args:
        access: Where to, and as whom.
        client_id: As the broker tells clients apart; a second client with it ends the first.
        clock: For deadlines.
        will: What the broker publishes when the connection breaks.
        is_lasting: Whether the broker keeps the subscriptions while this client is away.
        session_expiry_s: For how long it does, and keeps what comes for them (MQTT 5).
        acknowledges: Whether the caller answers what it receives, with `acknowledge`; the broker
            delivers again, to the next link of this name, what was not answered.
        max_packet_bytes: The broker leaves out what is larger (MQTT 5).
    """

    def __init__(
        self,
        access: Access,
        client_id: str,
        clock: Clock,
        *,
        will: Message | None = None,
        is_lasting: bool = False,
        session_expiry_s: int = SESSION_EXPIRY_S,
        acknowledges: bool = False,
        max_packet_bytes: int = MAX_PACKET_BYTES,
    ) -> None:
        self.is_connected = False
        self.heard_s = clock.monotonic_s()
        self._access = access
        self._clock = clock
        self._is_lasting = is_lasting
        self._session_expiry_s = session_expiry_s
        self._acknowledges = acknowledges
        self._max_packet_bytes = max_packet_bytes
        self._is_over = False
        self._opened_s = self.heard_s
        self._happened: list[Happening] = []
        self._client = self._new_client(client_id, will)

    @property
    def _is_v5(self) -> bool:
        return self._access.config.protocol == "5"

    def _new_client(self, client_id: str, will: Message | None) -> paho.Client:
        config = self._access.config
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id,
            clean_session=None if self._is_v5 else not self._is_lasting,
            protocol=MQTTProtocolVersion.MQTTv5 if self._is_v5 else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=self._acknowledges,
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.max_inflight_messages = 0  # the window is ours; paho must queue nothing
        if config.username is not None:
            client.username_pw_set(config.username, self._access.secret)
        if self._access.tls is not None:
            client.tls_set_context(self._access.tls)
        if will is not None:
            client.will_set(will.topic, will.payload, will.qos, will.retain)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        return client

    # ---------------------------------------------------------------- what a caller does

    def open(self) -> None:
        """Connect and send CONNECT; `Connected` or `Lost` will follow.

        Waits at most for TCP and TLS. A failure is noted as `Lost`, not raised.
        """
        config = self._access.config
        try:
            if self._is_v5:
                properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
                properties.MaximumPacketSize = self._max_packet_bytes
                if self._is_lasting:
                    properties.SessionExpiryInterval = self._session_expiry_s
                self._client.connect(
                    config.host,
                    config.tcp_port,
                    config.keepalive_s,
                    clean_start=not self._is_lasting,
                    properties=properties,
                )
            else:
                self._client.connect(config.host, config.tcp_port, config.keepalive_s)
        except OSError as error:
            self._note_loss(why_unreachable(error, config, self._access.called))
        except ValueError as error:  # a host name that no resolver can encode
            self._note_loss(Lost("unreachable", f"host cannot be looked up: {error}"))
        self._opened_s = self.heard_s = self._clock.monotonic_s()

    def turn(self, timeout_s: float, wake: Wake | None = None) -> list[Happening]:
        """Wait for the network, at most `timeout_s`, move bytes, return what happened.

        Args:
            timeout_s: Seconds; not waited where something has happened already.
            wake: Ends the wait when it is set.
        """
        sock = self._client.socket()
        if sock is not None and not self._is_over:
            try:
                self._move(sock, 0.0 if self._happened else timeout_s, wake)
            except _NO_MQTT as error:
                why = f"what answers is no MQTT broker: {error!r}"
                self.drop(Lost("unreachable", why, f"check {self._access.called.port}"))
            self._check_connack()
        if self._client.socket() is None and not self._is_over:
            self._note_loss(Lost("lost", "connection closed"))
        happened, self._happened = self._happened, []
        return happened

    def publish(self, message: Message) -> int:
        """Send a message; return the id that its `Acknowledged` will carry (QoS 1)."""
        return self._client.publish(message.topic, message.payload, message.qos, message.retain).mid

    def subscribe(self, topic_filter: str, qos: Literal[0, 1] = 1) -> int | None:
        """Ask for messages; return the id that `Subscribed` will carry, None without network."""
        return self._client.subscribe(topic_filter, qos=qos)[1]

    def acknowledge(self, received: Received) -> None:
        """Tell the broker that a message is safe here; see `acknowledges`."""
        self._client.ack(received.mid, 1)

    def unsubscribe(self, topic_filter: str) -> None:
        """Ask for no more of these messages."""
        self._client.unsubscribe(topic_filter)

    def drop(self, loss: Lost) -> None:
        """End the connection without a word: the broker then publishes the will."""
        sock = self._client.socket()
        self._note_loss(loss)
        if sock is not None:
            sock.close()

    def close(self) -> None:
        """Say goodbye, so that the broker does not publish the will, and close."""
        self._client.on_disconnect = None
        sock = self._client.socket()
        if sock is None:
            return
        if not self._is_over:
            self._client.disconnect()  # paho writes it at once, into the socket's buffer
        sock.close()

    @property
    def keepalive_s(self) -> int:
        """Seconds between pings of a quiet connection; the broker may have set fewer."""
        return self._client.keepalive

    @property
    def is_frozen(self) -> bool:
        """Whether the broker has left a ping unanswered, short of two keepalives of silence.

        A quiet broker is pinged after one keepalive, so silence beyond that is a missing answer.
        """
        silent_s = self._clock.monotonic_s() - self.heard_s
        return self.keepalive_s > 0 and silent_s > 1.8 * self.keepalive_s

    # ---------------------------------------------------------------- the network

    def _move(self, sock: Any, timeout_s: float, wake: Wake | None) -> None:
        if isinstance(sock, ssl.SSLSocket) and sock.pending():
            timeout_s = 0.0  # already decrypted: the kernel will not report it again
        poll = select.poll()
        wanted = select.POLLIN | (select.POLLOUT if self._client.want_write() else 0)
        poll.register(sock.fileno(), wanted)
        if wake is not None:
            poll.register(wake.descriptor, select.POLLIN)
        ready = dict(poll.poll(timeout_s * 1000.0))
        events = ready.get(sock.fileno(), 0)
        if wake is not None and wake.descriptor in ready:
            wake.clear()
        if events & ~select.POLLOUT or (isinstance(sock, ssl.SSLSocket) and sock.pending()):
            self.heard_s = self._clock.monotonic_s()
            self._client.loop_read()
        if events & select.POLLOUT:
            self._client.loop_write()
        self._client.loop_misc()

    def _check_connack(self) -> None:
        late = self._clock.monotonic_s() - self._opened_s > CONNACK_TIMEOUT_S
        if late and not self.is_connected and not self._is_over:
            self.drop(
                Lost("unreachable", f"broker does not answer within {CONNACK_TIMEOUT_S:.0f} s")
            )

    def _note_loss(self, loss: Lost) -> None:
        self.is_connected = False
        if not self._is_over:
            self._is_over = True
            self._happened.append(loss)

    # ---------------------------------------------------------------- paho's callbacks: notes only

    def _on_connect(
        self, _client: Any, _data: Any, _flags: Any, reason: ReasonCode, properties: Any
    ) -> None:
        if reason.is_failure:
            self._note_loss(why_refused(reason, self._access.config, self._access.called))
            return
        self.is_connected = True
        wanted_s = self._access.config.keepalive_s
        if not 0 < self._client.keepalive <= wanted_s:
            # How long a broker waits it may say itself (MQTT 5), also for ever. How soon a frozen
            # one is noticed is ours to say: nothing keeps a client from asking more often.
            self._client._keepalive = wanted_s
        self._happened.append(
            Connected(
                window=getattr(properties, "ReceiveMaximum", 65535),
                max_packet_bytes=getattr(properties, "MaximumPacketSize", None),
            )
        )

    def _on_disconnect(
        self, _client: Any, _data: Any, flags: Any, reason: ReasonCode, _properties: Any
    ) -> None:
        if not flags.is_disconnect_packet_from_server:
            self._note_loss(Lost("lost", "connection closed"))
        elif reason.value == _SESSION_TAKEN_OVER:
            self._note_loss(Lost("lost", str(reason), ONE_NAME_EACH))
        else:
            self._note_loss(Lost("lost", f"broker says: {reason}"))

    def _on_publish(
        self, _client: Any, _data: Any, mid: int, reason: ReasonCode, _properties: Any
    ) -> None:
        refusal = str(reason) if reason.is_failure else None
        self._happened.append(Acknowledged(mid, refusal, reason.value == _QUOTA_EXCEEDED))

    def _on_subscribe(
        self, _client: Any, _data: Any, mid: int, reasons: list[ReasonCode], _properties: Any
    ) -> None:
        refusals = [str(reason) for reason in reasons if reason.is_failure]
        self._happened.append(Subscribed(mid, refusals[0] if refusals else None))

    def _on_message(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        self._happened.append(
            Received(message.topic, bytes(message.payload), message.retain, message.mid)
        )
