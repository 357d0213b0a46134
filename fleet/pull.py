"""Fetching what devices keep to be labelled: asked for piece by piece, checked, taken once.

Nothing of it lies at the broker, and nothing of a transfer but whole pictures lies here: one that
was cut off goes on with the pictures that are missing. What a device sends is taken for foreign:
bounded before it is fetched, checked before it is used, and put aside with a name where it is not
what it should be.
"""

import hashlib
import re
import secrets
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from edge_runtime.clock import Clock
from edge_runtime.link import Received
from fleet.pulled import PulledDataset
from fleet.roster import Member
from fleet.session import Session
from transom.chunks import chunk_count, chunk_size, read_chunk
from transom.errors import DatasetError, MessageError
from transom.messages import Message, Payload, Topics, decode, encode
from transom.sharing import (
    MOST_BYTES,
    PAGE,
    AskList,
    AskOffer,
    AskPicture,
    SampleId,
    SamplesOffer,
    SamplesPage,
    SharedSample,
    part_topic,
)

WINDOW = 4
"""Pictures that are asked for at once: what a transfer holds in memory."""

MOST_SAMPLES = 20_000
"""Of a device, in one pull."""

_TURN_S = 0.5
_ASK_AGAIN_S = 5.0
_TRIES = 3
_MOST_NAMED = 100

_CHUNK = re.compile(r"([0-9]{1,16})/([0-9]{1,16})")
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

Standing = Literal["done", "refused", "away", "failed"]


@dataclass
class Outcome:
    """What has come of one device.

    Attributes:
        device: Its name.
        standing: `refused` = it does not share; `away` = offline.
        new: Pictures that were not here before.
        known: Pictures that were.
        removed: Pictures that somebody has taken out of the data set, which stay out.
        labels: Labels that are new, or others than before.
        aside: What could not be used, and why; at most a hundred.
        reason: Why it failed.
    """

    device: str
    standing: Standing = "done"
    new: int = 0
    known: int = 0
    removed: int = 0
    labels: int = 0
    aside: list[str] = field(default_factory=list)
    reason: str = ""


Show = Callable[[Outcome, int], None]
"""Called with what has come so far of a device, and how many samples it has."""


@dataclass
class _Arriving:
    """A picture on its way."""

    sample: SharedSample
    chunks: dict[int, bytes] = field(default_factory=dict)
    tries: int = 1

    @property
    def is_whole(self) -> bool:
        return len(self.chunks) == chunk_count(self.sample.size_bytes)

    @property
    def picture(self) -> bytes:
        return b"".join(self.chunks[number] for number in sorted(self.chunks))


class _Numbered(Payload, frozen=True, kw_only=True):
    id: SampleId


class _SilentError(Exception):
    """A device that answered says nothing any more."""


class Pull:
    """Brings samples of devices into a data set.

    Args:
        session: The broker.
        clock: For time limits.
        dataset: Takes them.
        answer_s: Within how long a device must say that it shares.

    Raises:
        TransomError: The broker refuses the subscription.
    """

    def __init__(
        self, session: Session, clock: Clock, dataset: PulledDataset, answer_s: float
    ) -> None:
        self._session = session
        self._clock = clock
        self._dataset = dataset
        self._answer_s = answer_s
        self._request = secrets.token_hex(8)
        session.subscribe(f"{Topics(session.prefix, '+').samples}/{self._request}/#")

    def run(self, members: Sequence[Member], show: Show) -> Iterator[Outcome]:
        """Fetch from one device after the other; yield what has come of each.

        Raises:
            TransomError: The broker refuses something.
            DatasetError: The data set cannot be written.
        """
        offers = self._offers([member.device for member in members if member.is_online])
        for member in members:
            outcome = Outcome(member.device)
            offer = offers.get(member.device)
            if not member.is_online:
                outcome.standing, outcome.reason = "away", "offline"
            elif offer is None:
                outcome.standing = "refused"
                outcome.reason = (
                    f"does not share its pictures: no answer within {self._answer_s:g} s; "
                    "set pull = true in [samples] of its configuration"
                )
            else:
                self._fetch(outcome, offer, show)
            yield outcome
        self._dataset.clear_unfinished()

    def _offers(self, devices: list[str]) -> dict[str, SamplesOffer]:
        """Ask everybody at once who shares: an answer is small, and most may not."""
        topics = {self._offer_topic(device): device for device in devices}
        for device in devices:
            self._ask(device, AskOffer(request=self._request))
        offers: dict[str, SamplesOffer] = {}
        until_s = self._clock.monotonic_s() + self._answer_s
        while len(offers) < len(devices) and self._clock.monotonic_s() < until_s:
            received = self._session.receive(_TURN_S)
            if received is None or received.topic not in topics:
                continue
            try:
                offer = decode(received.payload, SamplesOffer, received.topic)
            except MessageError:
                continue  # of a version that this one does not know
            offers[topics[received.topic]] = offer
        return offers

    def _offer_topic(self, device: str) -> str:
        return part_topic(self._root(device), self._request, "offer")

    def _root(self, device: str) -> str:
        return Topics(self._session.prefix, device).samples

    def _ask(self, device: str, ask: Payload) -> None:
        topic = Topics(self._session.prefix, device).samples_ask
        self._session.publish(Message(topic, encode(ask)))

    # ---------------------------------------------------------------- one device

    def _fetch(self, outcome: Outcome, offer: SamplesOffer, show: Show) -> None:
        try:
            self._dataset.meet(outcome.device, offer)
            self._dataset.save()  # after a kill, its pictures must be known for a data set's
            after, listed, is_last = 0, 0, False
            # Some may be kept while others are fetched.
            most = min(offer.samples + PAGE, MOST_SAMPLES)
            while not is_last:
                page = self._page(outcome.device, after)
                is_last = page.is_last or not page.samples
                listed += len(page.samples)
                if listed > most:
                    raise MessageError(
                        f"{outcome.device}: tells of more than {most:,} samples, it has offered "
                        f"{offer.samples:,}; what came is kept"
                    )
                samples, after = _read_page(page, after, outcome)
                self._take_all(outcome, samples, lambda: show(outcome, offer.samples))
                self._dataset.save()
        except (_SilentError, MessageError, DatasetError) as error:
            outcome.standing, outcome.reason = "failed", str(error)
        finally:
            self._dataset.save()

    def _page(self, device: str, after: int) -> SamplesPage:
        topic = part_topic(self._root(device), self._request, "list", after)
        for _ in range(_TRIES):
            self._ask(device, AskList(request=self._request, after=after))
            until_s = self._clock.monotonic_s() + _ASK_AGAIN_S
            while self._clock.monotonic_s() < until_s:
                received = self._session.receive(_TURN_S)
                if received is not None and received.topic == topic:
                    return decode(received.payload, SamplesPage, topic)
        raise _SilentError(_silent(device))

    def _take_all(
        self, outcome: Outcome, samples: list[SharedSample], show: Callable[[], None]
    ) -> None:
        """Take the samples of a page, a few pictures on their way at once."""
        waiting = deque(self._missing(outcome, samples))
        show()
        arriving: dict[int, _Arriving] = {}
        heard_s = self._clock.monotonic_s()
        silences = 0
        while waiting or arriving:
            while waiting and len(arriving) < WINDOW:
                sample = waiting.popleft()
                arriving[sample.id] = _Arriving(sample)
                self._ask(outcome.device, AskPicture(request=self._request, id=sample.id))
            received = self._session.receive(_TURN_S)
            if received is not None and self._take_chunk(outcome, received, arriving):
                heard_s, silences = self._clock.monotonic_s(), 0
                show()
            elif self._clock.monotonic_s() - heard_s > _ASK_AGAIN_S:
                heard_s, silences = self._clock.monotonic_s(), silences + 1
                if silences == _TRIES:
                    raise _SilentError(_silent(outcome.device))
                for id_ in arriving:
                    self._ask(outcome.device, AskPicture(request=self._request, id=id_))

    def _missing(self, outcome: Outcome, samples: list[SharedSample]) -> Iterator[SharedSample]:
        """Take the samples whose pictures are here; yield those to fetch."""
        for sample in samples:
            if self._dataset.was_removed(outcome.device, sample):
                outcome.removed += 1
            elif self._dataset.has(outcome.device, sample):
                self._take(outcome, sample, None)
            elif sample.size_bytes > MOST_BYTES:
                said = f"has {sample.size_bytes:,} bytes, at most {MOST_BYTES:,} are fetched"
                _put_aside(outcome, sample, said)
            else:
                yield sample

    def _take_chunk(
        self, outcome: Outcome, received: Received, arriving: dict[int, _Arriving]
    ) -> bool:
        """Take in a message; return whether it is a piece of what is on its way."""
        root = f"{self._root(outcome.device)}/{self._request}/"
        found = _CHUNK.fullmatch(received.topic.removeprefix(root))
        if not received.topic.startswith(root) or found is None:
            return False
        id_, number = map(int, found.groups())
        coming = arriving.get(id_)
        if coming is None:
            return False
        if not received.payload:  # the device has made room meanwhile
            del arriving[id_]
            return True
        try:
            self._add_chunk(coming, number, received)
        except MessageError as error:
            self._try_again(outcome, arriving, coming, str(error))
            return True
        if coming.is_whole:
            if hashlib.sha256(coming.picture).hexdigest() == coming.sample.sha256:
                del arriving[id_]
                self._take(outcome, coming.sample, coming.picture)
            else:
                self._try_again(outcome, arriving, coming, "is not what its digest says")
        return True

    def _add_chunk(self, coming: _Arriving, number: int, received: Received) -> None:
        size_bytes = coming.sample.size_bytes
        if number >= chunk_count(size_bytes):
            raise MessageError(f"{received.topic}: is a chunk beyond the {size_bytes:,} announced")
        wanted = chunk_size(number, size_bytes)
        coming.chunks[number] = read_chunk(received.payload, wanted, received.topic)

    def _try_again(
        self, outcome: Outcome, arriving: dict[int, _Arriving], coming: _Arriving, why: str
    ) -> None:
        coming.tries += 1
        coming.chunks.clear()
        if coming.tries > _TRIES:
            del arriving[coming.sample.id]
            _put_aside(outcome, coming.sample, why)
        else:
            self._ask(outcome.device, AskPicture(request=self._request, id=coming.sample.id))

    def _take(self, outcome: Outcome, sample: SharedSample, picture: bytes | None) -> None:
        try:
            taken = self._dataset.take(outcome.device, sample, picture)
        except ValueError as error:
            where = "" if picture is None else self._dataset.put_aside(
                outcome.device, sample, picture
            )  # fmt: skip
            _put_aside(outcome, sample, f"{error}{'; kept as ' if where else ''}{where}")
            return
        outcome.new += taken.is_new
        outcome.known += not taken.is_new
        outcome.labels += taken.has_new_label


def _read_page(page: SamplesPage, after: int, outcome: Outcome) -> tuple[list[SharedSample], int]:
    """Return the samples of a page that can be used, and after which sample the next one begins.

    Raises:
        MessageError: The device does not get on.
    """
    samples = []
    for raw in page.samples:
        try:
            number = msgspec.json.decode(raw, type=_Numbered).id
        except _UNREADABLE as error:
            raise MessageError(
                f"{outcome.device}: tells of a sample without number: {error}"
            ) from error
        if number <= after:
            raise MessageError(f"{outcome.device}: tells of sample {number} once more")
        after = number
        try:
            samples.append(msgspec.json.decode(raw, type=SharedSample))
        except _UNREADABLE as error:
            _name(outcome, f"sample {number}: {error}")
    return samples, after


def _put_aside(outcome: Outcome, sample: SharedSample, why: str) -> None:
    _name(outcome, f"sample {sample.id} of {sample.zone}: {why}")


def _name(outcome: Outcome, what: str) -> None:
    if len(outcome.aside) < _MOST_NAMED:
        outcome.aside.append(what)


def _silent(device: str) -> str:
    return (
        f"{device} has fallen silent, {_TRIES} times {_ASK_AGAIN_S:g} s; what came is kept, and "
        "the same command goes on"
    )
