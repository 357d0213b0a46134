"""The device's side of `transom pull`: it tells of its samples, and sends those it is asked for.

A thread of its own answers, one question at a time, and only while the connection has little else
to carry: an event waits for two chunks at most. Questions beyond a few are dropped; who asks asks
again.
"""

import hashlib
import logging
import queue
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Literal, Protocol, Self

import msgspec

from edge_runtime.complaints import Complaints
from edge_runtime.link import Received, Take
from edge_runtime.sample import Sample
from edge_runtime.samples import SampleStore
from transom.bundle import Bundle
from transom.chunks import cut_file
from transom.config import Config
from transom.errors import MessageError
from transom.messages import Message, Payload, Topics, encode
from transom.sharing import (
    PAGE,
    Ask,
    AskList,
    AskOffer,
    SamplesOffer,
    SamplesPage,
    SharedSample,
    SharedTask,
    chunk_topic,
    part_topic,
    read_ask,
)

_log = logging.getLogger(__name__)

_INBOX = 32
_MOST_WAITING = 2
_LOOK_AGAIN_S = 0.02
_JOIN_S = 1.0


class Voice(Protocol):
    """The way to the broker; see `mqtt.Publisher`."""

    @property
    def waiting(self) -> int:
        """Messages that the broker has not acknowledged."""

    def send(self, message: Message) -> None:
        """Publish the newest value of a topic."""

    def listen(self, topic_filter: str, take: Take, qos: Literal[0, 1] = 1) -> None:
        """Subscribe now and at each reconnect."""


class Sharing:
    """Answers what is asked about the samples of a device, between entering and leaving.

    Args:
        config: The device's; consents to it.
        topics: The device's.
        voice: The broker.
        store: The samples.
        bundle: The bundle that serves.
    """

    def __init__(
        self, config: Config, topics: Topics, voice: Voice, store: SampleStore, bundle: Bundle
    ) -> None:
        self._topics = topics
        self._voice = voice
        self._store = store
        self._manifest, self._digest = bundle.manifest, bundle.digest
        zones = [(camera.name, zone) for camera in config.cameras for zone in camera.zones]
        self._cameras: Mapping[str, str] = {zone.name: camera for camera, zone in zones}
        self._tasks = {zone.task for _, zone in zones}
        self._complaints = Complaints(_log)
        self._inbox: queue.Queue[Received | None] = queue.Queue(_INBOX)
        self._is_ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sharing", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        # QoS 0: who asks does not wait for a device that is away.
        self._voice.listen(self._topics.samples_ask, self._put_aside, qos=0)
        return self

    def __exit__(self, *_: object) -> None:
        self._is_ended.set()
        self._put_aside(None)
        self._thread.join(_JOIN_S)

    def _put_aside(self, received: Received | None) -> None:
        try:
            self._inbox.put_nowait(received)
        except queue.Full:
            _log.debug("too much is asked at once about samples; dropped a question")

    def _run(self) -> None:
        while not self._is_ended.is_set():
            received = self._inbox.get()
            if received is not None and not received.retain:  # nobody asks for ever
                self._meet(received)

    def _meet(self, received: Received) -> None:
        try:
            ask = read_ask(received.payload, received.topic)
        except MessageError as error:
            what, now_s = "question about samples cannot be read", time.monotonic()
            self._complaints.say(what, received.topic, error, now_s)
            return
        for topic, payload in self._answer(ask):
            if not self._wait_for_room():
                return
            self._voice.send(Message(topic, payload))

    def _wait_for_room(self) -> bool:
        """Wait until the connection has little to carry; return whether there is still a need."""
        while self._voice.waiting >= _MOST_WAITING:
            if self._is_ended.wait(_LOOK_AGAIN_S):
                return False
        return not self._is_ended.is_set()

    def _answer(self, ask: Ask) -> Iterator[tuple[str, bytes]]:
        root = self._topics.samples
        if isinstance(ask, AskOffer):
            yield part_topic(root, ask.request, "offer"), encode(self._offer())
        elif isinstance(ask, AskList):
            yield part_topic(root, ask.request, "list", ask.after), encode(self._page(ask.after))
        else:
            sample = self._store.get(ask.id)
            chunks = [b""] if sample is None else cut_file(sample.picture)
            for number, chunk in enumerate(chunks):
                yield chunk_topic(root, ask.request, ask.id, number), chunk

    def _offer(self) -> SamplesOffer:
        counts = self._store.counts()
        return SamplesOffer(
            samples=counts.samples,
            labelled=counts.labelled,
            model=self._manifest.name,
            sequence=self._manifest.sequence,
            digest=self._digest,
            tasks={
                task.name: SharedTask(classes=task.classes, ordinal=task.ordinal)
                for task in self._manifest.tasks
                if task.name in self._tasks
            },
        )

    def _page(self, after: int) -> Payload:
        told = [self._told(sample) for sample in self._store.after(after, PAGE + 1)]
        raw = tuple(msgspec.Raw(encode(entry)) for entry in told[:PAGE])
        return SamplesPage(samples=raw, is_last=len(told) <= PAGE)

    def _told(self, sample: Sample) -> SharedSample:
        return SharedSample(
            id=sample.id,
            camera=self._cameras.get(sample.zone),
            zone=sample.zone,
            task=sample.task,
            why=sample.why,
            taken_at=sample.taken_at,
            shape=sample.shape.to_text(),
            model=sample.model,
            classes=sample.classes,
            probabilities=tuple(round(float(value), 4) for value in sample.probabilities),
            label=sample.label,
            labelled_by=sample.labelled_by,
            labelled_at=sample.labelled_at,
            copies=sample.copies,
            drawn=sample.drawn,
            sha256=hashlib.sha256(sample.picture).hexdigest(),
            size_bytes=len(sample.picture),
        )
