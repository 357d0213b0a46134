"""A device that takes bundles, without its cameras, and somebody who offers them."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import msgspec
from paho.mqtt import publish
from paho.mqtt.enums import MQTTProtocolVersion

from edge_runtime.clock import Clock
from edge_runtime.handover import Handover
from edge_runtime.ledger import LedgerFile
from edge_runtime.mqtt import Publisher
from edge_runtime.outbox import Outbox
from edge_runtime.replay import ClipClock
from edge_runtime.update_reports import UpdateReports
from edge_runtime.updater import Updater
from tests.edge_runtime.broker import Broker, Subscriber, wait_until
from transom.bundle import read_bundle, write_bundle
from transom.config import (
    CameraConfig,
    Config,
    ModelsConfig,
    MqttConfig,
    OutboxConfig,
    UpdatesConfig,
    ZoneConfig,
)
from transom.messages import Message, Topics
from transom.signing import load_private_key
from transom.updates import Desired, Install, Rollback, cut

TOPICS = Topics("transom", "hall-pi")
POLYGON = ((0.36, 0.17), (0.64, 0.17), (0.64, 0.93), (0.36, 0.93))


class TinyBundle(Protocol):
    path: Path
    keys: Path
    private_key: Path


def rewrite(
    tiny: TinyBundle,
    path: Path,
    *,
    key: Path | None = None,
    padding: int = 0,
    parts: dict[str, Any] | None = None,
    **manifest: Any,
) -> Path:
    """Write a copy of the tiny bundle with other parts, signed."""
    bundle = read_bundle(tiny.path, None)
    given: dict[str, Any] = {
        "model": bundle.model,
        "goldens": bundle.goldens,
        "report": {"padding": "x" * padding},
    }
    write_bundle(
        path,
        manifest=msgspec.structs.replace(bundle.manifest, **manifest),
        key=load_private_key(key or tiny.private_key),
        **given | (parts or {}),
    )
    return path


def wish_for(path: Path, **changes: Any) -> Install:
    """Say what to install."""
    bundle = read_bundle(path, None)
    wish = Install(
        request=secrets.token_hex(4),
        name=bundle.manifest.name,
        sequence=bundle.manifest.sequence,
        digest=bundle.digest,
        size_bytes=path.stat().st_size,
    )
    return msgspec.structs.replace(wish, **changes)


def way_back_from(path: Path) -> Rollback:
    """Say what to leave."""
    wish = wish_for(path)
    return Rollback(request=wish.request, name=wish.name, sequence=wish.sequence)


@dataclass
class Offer:
    """Somebody with the right to publish."""

    broker: Broker

    def send(self, *messages: Message) -> None:
        publish.multiple(
            [(m.topic, m.payload, m.qos, m.retain) for m in messages],
            hostname="127.0.0.1",
            port=self.broker.port,
            protocol=MQTTProtocolVersion.MQTTv5,
        )

    def chunks(self, path: Path, digest: str | None = None) -> list[Message]:
        digest = digest or read_bundle(path, None).digest
        return list(cut(path.read_bytes(), "transom", digest))

    def wish(self, wish: Desired) -> None:
        payload = msgspec.json.encode(wish)
        self.send(Message(TOPICS.model_desired, payload, retain=True))

    def withdraw(self) -> None:
        self.send(Message(TOPICS.model_desired, b"", retain=True))

    def deploy(self, path: Path, **changes: Any) -> Install:
        wish = wish_for(path, **changes)
        self.send(*self.chunks(path, wish.digest))
        self.wish(wish)
        return wish


class Device:
    """The updating half of a daemon, from one start to the next."""

    def __init__(
        self,
        folder: Path,
        broker: MqttConfig,
        keys: Path,
        clock: Clock | None = None,
        name: str = "hall-pi",
        **updates: Any,
    ) -> None:
        zone = ZoneConfig(name="door", polygon=POLYGON)
        self.store = folder / "store"
        self.config = Config(
            device=name,
            state_directory=str(folder),
            mqtt=broker,
            models=ModelsConfig(
                store=str(self.store),
                trusted_keys=str(keys),
                recovery_keys=str(folder / "recovery_keys"),
            ),
            updates=UpdatesConfig(**{"shadow_decisions": 0, **updates}),
            cameras=(CameraConfig(name="hall", source="file:x.mp4", zones=(zone,)),),
        )
        self.clock = clock or Clock()
        self.topics = Topics("transom", name)
        self.boot_id = "the first"
        self.serves = 0  # sequence of the bundle, from the first start on
        self._folder = folder

    def __enter__(self) -> Self:
        self.outbox = Outbox(self._folder / "outbox.sqlite3", OutboxConfig())
        self.publisher = Publisher(
            self.config.mqtt, self.topics, self.outbox, secret=None, clock=Clock()
        )
        reports = UpdateReports(self.topics, self.outbox, self.publisher, Clock())
        self.handover = Handover(self.config.models, reports, LedgerFile(self.store), self.boot_id)
        self.bundle = self.handover.begin()
        self.serves = self.bundle.manifest.sequence
        self.updater = Updater(
            self.config,
            self.topics,
            self.publisher,
            self.handover,
            reports,
            self.bundle,
            self.clock,
        )
        self.publisher.start()
        self.updater.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """End in good order; a test that wants a crash calls `crash`."""
        self.updater.stop()
        if kind is None and not self.updater.wants_restart:
            self.handover.end()
        self.crash()

    def crash(self) -> None:
        self.updater.stop()
        self.publisher.stop(2.0)
        self.outbox.close()

    def work_well(self, seconds: float) -> None:
        """Let a device on a test's clock find itself well for so long."""
        assert isinstance(self.clock, ClipClock)
        for _ in range(int(seconds) + 1):
            self.updater.note_health(is_well=True)
            self.clock.now_ns += 1_000_000_000


def reports(subscriber: Subscriber, request: str | None = None) -> list[dict[str, Any]]:
    """Return the reports that came, oldest first."""
    found = [msgspec.json.decode(text) for text in subscriber.payloads(TOPICS.model_report)]
    return [report for report in found if request in (None, report["request"])]


def steps(subscriber: Subscriber, request: str | None = None) -> list[str]:
    return [report["step"] for report in reports(subscriber, request)]


def wait_for_step(subscriber: Subscriber, step: str, request: str | None = None) -> dict[str, Any]:
    """Return the first report of a step."""

    def found() -> dict[str, Any] | None:
        told = [report for report in reports(subscriber, request) if report["step"] == step]
        return told[0] if told else None

    report: dict[str, Any] = wait_until(found, 30.0)
    return report


Make = Callable[..., Device]
