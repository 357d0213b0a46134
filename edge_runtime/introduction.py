"""What a device says of itself before anything else, and what it takes back of earlier days.

What is retained stays at the broker until somebody takes it away: the state of a zone that has
another name now, or the last picture of one whose snapshots were switched off. Home Assistant
keeps an entity in the same way, until its component comes once with nothing but its platform. So a
device remembers what it has ever told, and takes back what it tells no more: at each connection,
as a broker may have been set back to an older day.

What lies below another name of the device, or another prefix, is not taken back here: it is
another's business by now, and perhaps another device's; see `former_name`.

References:
    https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload
"""

import logging
import threading
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import msgspec

from edge_runtime.homeassistant import components, discovery, discovery_topic
from transom import __version__
from transom.atomic import write_file
from transom.config import Config
from transom.errors import MessageError
from transom.manifest import Manifest
from transom.messages import Message, Payload, Topics, decode

_log = logging.getLogger(__name__)

FILE_NAME = "told.json"
"""In the state directory."""

_MOST = 300
"""Topics, and components, that are remembered: the newest."""

_MOST_NAMES = 8


class Told(Payload, frozen=True, kw_only=True):
    """What was told, of what the configuration decides.

    Attributes:
        topics: Of retained messages.
        components: Home Assistant's, their platform by their key.
        roots: Where all topics of the device began, by the names and the prefixes that it has had.
    """

    topics: tuple[str, ...] = ()
    components: Mapping[str, str] = {}
    roots: tuple[str, ...] = ()


class ToldFile:
    """What a device has ever told, over restarts. Safe to use from several threads.

    Args:
        state: The state directory.
    """

    def __init__(self, state: Path) -> None:
        self._path = state / FILE_NAME
        self._lock = threading.Lock()

    def extend(self, now: Told) -> Told:
        """Return all that was ever told, what is told now included; it is remembered.

        A disk that does not take or give it is no reason to tell nothing.
        """
        with self._lock:
            before = self._read_or_none()
            if before is None:  # and it is not written over: it may be there another time
                return now
            topics = [topic for topic in before.topics if topic not in now.topics]
            gone = {k: v for k, v in before.components.items() if k not in now.components}
            roots = [root for root in before.roots if root not in now.roots]
            ever = Told(
                topics=(*topics, *now.topics)[-_MOST:],
                components=dict([*gone.items(), *now.components.items()][-_MOST:]),
                roots=(*roots, *now.roots)[-_MOST_NAMES:],
            )
            self._write(ever, before)
            return ever

    def ever(self) -> Told:
        """Return all that was ever told; nothing where that cannot be read."""
        with self._lock:
            return self._read_or_none() or Told()

    def forget(self, topics: Collection[str], root: str | None = None) -> None:
        """Remember no more that something was told.

        Args:
            topics: Of what was retained.
            root: Of a name of the device that is done with.
        """
        with self._lock:
            before = self._read_or_none()
            if before is None:
                return
            after = msgspec.structs.replace(
                before,
                topics=tuple(topic for topic in before.topics if topic not in topics),
                roots=tuple(one for one in before.roots if one != root),
            )
            self._write(after, before)

    def _write(self, told: Told, before: Told) -> None:
        try:
            if told != before:
                write_file(self._path, msgspec.json.encode(told), mode=0o600)
        except OSError as error:
            _log.warning("what is told cannot be written path=%s reason=%s", self._path, error)

    def _read_or_none(self) -> Told | None:
        try:
            return self._read()
        except OSError as error:
            _log.warning("what was told before is not known path=%s reason=%s", self._path, error)
            return None

    def _read(self) -> Told:
        try:
            return decode(self._path.read_bytes(), Told, str(self._path))
        except FileNotFoundError:
            return Told()
        except MessageError as error:
            _log.warning("what was told before is passed over reason=%s", error)
            return Told()


def introduce(config: Config, manifest: Manifest, told: ToldFile | None) -> Iterator[Message]:
    """Yield what a device says first; what it says no more is taken away.

    Args:
        config: The device's.
        manifest: Of the bundle that serves.
        told: What was told before; None = nobody remembers.

    Raises:
        ValueError: A zone asks for a task or classes that the bundle does not have.
    """
    now = _told_now(config, manifest)
    ever = now if told is None else told.extend(now)
    if config.homeassistant.discovery:
        gone = {k: v for k, v in ever.components.items() if k not in now.components}
        yield discovery(config, manifest, __version__, gone)
    ours = (f"{Topics(config.mqtt.prefix, config.device).root}/", discovery_topic(config))
    for topic in ever.topics:
        if topic not in now.topics and topic.startswith(ours):
            yield Message(topic, b"", qos=1, retain=True)


def _told_now(config: Config, manifest: Manifest) -> Told:
    topics = Topics(config.mqtt.prefix, config.device)
    retained: list[str] = []
    for camera in config.cameras:
        retained += topics.camera_status(camera.name), topics.camera_problem(camera.name)
        for zone in camera.zones:
            retained.append(topics.state(zone.name))
            if zone.snapshot:
                retained.append(topics.snapshot(zone.name))
    if not config.homeassistant.discovery:
        return Told(topics=tuple(retained), roots=(topics.root,))
    described = components(config, manifest)
    return Told(
        topics=(*retained, discovery_topic(config)),
        components={key: component["platform"] for key, component in described.items()},
        roots=(topics.root,),
    )
