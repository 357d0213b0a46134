"""The broker: asked for, tried, and tried again until it lets this device do its work."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import click
import msgspec

from edge_runtime import broker_options
from edge_runtime.clock import Clock
from edge_runtime.doctor import told_discovery
from edge_runtime.doctor_broker import try_broker
from edge_runtime.finding import Check
from edge_runtime.link import Access, read_tls
from edge_runtime.setup.draft import MQTT_PASSWORD, Draft
from edge_runtime.setup.talk import Talk
from transom.config import MqttConfig
from transom.errors import ConfigurationError

CALLED = replace(
    broker_options.CALLED,
    host="--broker",
    protocol="mqtt.protocol, in the file that --unchecked writes,",
)
"""Whoever is asked has no configuration yet, and knows the options only."""


@dataclass(frozen=True)
class BrokerWishes:
    """What the command line says of the broker; None = asked, or proposed."""

    host: str | None = None
    port: int | None = None
    tls: bool | None = None
    ca_file: str | None = None
    username: str | None = None
    secret: str | None = None
    prefix: str = "transom"


def ask_broker(talk: Talk, wishes: BrokerWishes) -> tuple[MqttConfig, str | None]:
    """Return the broker and the password for it.

    Raises:
        UsageError: Two of the options, or answers, do not go together; told by option.
    """
    host = talk.ask("broker's name or address", "--broker", _read_host, "localhost", wishes.host)
    tls = wishes.tls
    is_here = not MqttConfig(host=host).uses_tls
    if tls is None and not is_here and talk.is_asking:
        tls = talk.agree("is the connection to it encrypted (TLS)", proposal=True)
        talk.note("--tls" if tls else "--no-tls")
    port = wishes.port
    if port is None:
        usual = MqttConfig(host=host, tls=tls).tcp_port
        port = talk.ask("its port", "--port", _read_port, str(usual))
    username = wishes.username
    if username is None and talk.is_asking:
        username = talk.line("user at the broker (empty = none)") or None
        if username:
            talk.note("--username", username)
    secret = wishes.secret
    if username and secret is None:
        secret = talk.secret("password (not shown; empty = none)") or None
    given = {
        "host": host,
        "port": port,
        "tls": tls,
        "ca_file": wishes.ca_file,
        "username": username,
        "password_file": MQTT_PASSWORD if secret else None,
        "prefix": wishes.prefix,
    }
    said = {key: value for key, value in given.items() if value is not None}
    try:
        return msgspec.convert(said, MqttConfig), secret
    except msgspec.ValidationError as error:
        raise click.UsageError(_in_options(str(error))) from error


def examine_broker(
    draft: Draft, config_file: Path, clock: Clock, tell: Callable[[Check], None]
) -> list[Check]:
    """Try host, encryption, user, and the right to write and hear this device's topics.

    Args:
        draft: With all cameras and zones: Home Assistant's discovery names them.
        config_file: Relative paths start at its folder.
        clock: For time limits.
        tell: Told of each finding.

    Raises:
        ConfigurationError: The draft is no configuration.
    """
    config = draft.config()
    try:
        tls = read_tls(draft.mqtt, config_file)
    except ConfigurationError as error:  # it begins with a file that is not there yet
        what = str(error).removeprefix(f"{config_file}: ").replace("ca_file", CALLED.ca_file, 1)
        found = [Check(check="broker", ok=False, what=what, do=f"mend {CALLED.ca_file}")]
        tell(found[0])
        return found
    told = told_discovery(config) if config.homeassistant.discovery else None
    found = []
    access = Access(draft.mqtt, draft.mqtt_secret, tls, CALLED)
    for check in try_broker(config, access, clock, told):
        tell(check)
        found.append(check)
    return found


def _in_options(mistake: str) -> str:
    """Return what is wrong with a table of the configuration as one of the options that fill it."""
    what, _, key = mistake.partition(" - at `$.")
    if key:
        return f"--{key.rstrip('`').replace('_', '-')}: {what[0].lower()}{what[1:]}"
    if "need TLS" in what:
        return f"{CALLED.ca_file}: needs TLS, which is off here; give {CALLED.tls}"
    if "without username" in what:
        return f"{CALLED.password_file}: is given without {CALLED.username}"
    return f"{CALLED.host}: {what}"


def _read_host(text: str) -> str:
    try:
        return msgspec.convert({"host": text}, MqttConfig).host
    except msgspec.ValidationError:
        raise ValueError("must be a host's name or address alone, like broker.lan") from None


def _read_port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise ValueError(f"must be 1 to 65535, got {text!r}")
    return int(text)
