"""`transom doctor`: is the broker there, does it let this device in, and may it do its work."""

import secrets
from collections.abc import Iterator
from pathlib import Path

from edge_runtime.clock import Clock
from edge_runtime.conversation import Conversation
from edge_runtime.finding import Check
from edge_runtime.link import Access, Link, read_access
from edge_runtime.loss import Called, Lost
from transom.config import Config
from transom.errors import ConfigurationError
from transom.messages import Message, Topics

_ECHO_S = 5.0


def check_broker(
    config: Config, config_file: Path, clock: Clock, discovery: Message | None
) -> Iterator[Check]:
    """Yield whether the broker is there, lets this device in, and lets it do its work.

    Publishes one message, not retained, below the device's own topics, and listens for it.

    Args:
        config: The configuration.
        config_file: Its file; relative paths start there.
        clock: For time limits.
        discovery: What the daemon tells Home Assistant; None = nothing.
    """
    try:
        access = read_access(config.mqtt, config_file)
    except ConfigurationError as error:
        yield Check(check="broker", ok=False, what=str(error), do="mend [mqtt]")
        return
    yield from try_broker(config, access, clock, discovery)


def try_broker(
    config: Config, access: Access, clock: Clock, discovery: Message | None
) -> Iterator[Check]:
    """Yield the same with the password and the certificates of `access`."""
    link = Link(access, f"transom-doctor-{secrets.token_hex(4)}", clock)
    try:
        yield from _probe(link, config, access.called, clock, discovery)
    finally:
        link.close()


def _probe(
    link: Link, config: Config, called: Called, clock: Clock, discovery: Message | None
) -> Iterator[Check]:
    where = f"{config.mqtt.host}:{config.mqtt.tcp_port}"
    conversation = Conversation(link, clock)
    if not conversation.begin():
        loss = conversation.loss or Lost("unreachable", f"{where} does not answer")
        do = loss.do or f"check {called.host} and {called.port}"
        yield Check(check="broker", ok=False, what=loss.reason, do=do)
        return
    how = "encrypted" if config.mqtt.uses_tls else "not encrypted"
    yield Check(check="broker", ok=True, what=f"{where}, MQTT {config.mqtt.protocol}, {how}")
    topic = f"{Topics(config.mqtt.prefix, config.device).root}/doctor/{secrets.token_hex(4)}"
    yield _check_subscription(conversation, topic)
    yield _check_publication(conversation, topic)
    if config.homeassistant.discovery:
        yield _check_subscription(conversation, f"{config.homeassistant.prefix}/status")
    if discovery is not None:
        yield _check_discovery(conversation, discovery)


def _check_subscription(conversation: Conversation, topic: str) -> Check:
    refusal = conversation.subscribe(topic)
    do = f"let this user read {topic} in the broker's access list" if refusal else ""
    what = f"{topic}: {refusal}" if refusal else f"may subscribe to {topic}"
    return Check(check="broker rights", ok=refusal is None, what=what, do=do)


def _check_publication(conversation: Conversation, topic: str) -> Check:
    payload = secrets.token_hex(8).encode()
    refusal = conversation.publish(Message(topic, payload, qos=1))
    if refusal is not None:
        do = f"let this user write {topic.rpartition('/doctor')[0]}/# in the broker's access list"
        return Check(check="broker rights", ok=False, what=f"{topic}: {refusal}", do=do)
    missing = conversation.why_not_heard(lambda heard: heard.payload == payload, _ECHO_S)
    if missing is not None:
        do = "let this user write and read its own topics in the broker's access list"
        return Check(check="broker rights", ok=False, what=f"{topic}: {missing}", do=do)
    return Check(check="broker rights", ok=True, what=f"published to {topic} and heard it")


def _check_discovery(conversation: Conversation, message: Message) -> Check:
    """Return whether discovery may be published, by publishing it: it says what it always says."""
    refusal = conversation.publish(Message(message.topic, message.payload, qos=1))
    if refusal is None:
        return Check(check="broker rights", ok=True, what=f"may publish to {message.topic}")
    do = f"let this user write {message.topic} in the broker's access list"
    if conversation.loss is not None:
        do += f", and let the broker take packets of {len(message.payload) / 1000:.0f} kB"
    return Check(check="broker rights", ok=False, what=f"{message.topic}: {refusal}", do=do)
