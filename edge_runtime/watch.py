"""`transom watch`: subscribe and print what the devices say, for people or for scripts."""

import os
import secrets
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click
import msgspec

from edge_runtime.broker_options import broker_access, broker_options
from edge_runtime.clock import Clock, iso
from edge_runtime.link import (
    Access,
    Connected,
    Happening,
    Link,
    Lost,
    Received,
    Subscribed,
    wait_for_wake,
)
from transom.errors import EXIT_DONE, EXIT_FAILED, MessageError, TransomError
from transom.messages import (
    CameraProblem,
    ZoneEvent,
    decode,
    decode_any,
)

_FIRST_RETRY_S = 1.0
_LAST_RETRY_S = 30.0


@click.command("watch")
@broker_options
@click.option("--json", "as_json", is_flag=True, help="One JSON line a message received.")
@click.option("--count", type=click.IntRange(min=1), help="End after so many lines.")
@click.option(
    "--seconds", type=click.FloatRange(min=0, min_open=True), help="End after so many seconds."
)
def watch_command(
    config_file: Path | None,
    as_json: bool,
    count: int | None,
    seconds: float | None,
    **broker: Any,
) -> int:
    """Print alerts as they arrive, until Ctrl-C.

    With --count, ends with 1 when the seconds are over before so many lines came.

    \b
    Example:
        transom watch --host broker.lan --username me --password-file ~/.mqtt-password
        transom watch --config /etc/transom/transom.toml --json --count 1
    """
    access = broker_access(config_file, broker)
    show = as_json_line if as_json else as_alert
    watcher = Watcher(access, Clock(), show, sys.stdout.write)
    with _ended_by_signals(watcher):
        printed = watcher.run(count, seconds)
    return EXIT_FAILED if count is not None and printed < count and seconds else EXIT_DONE


Show = Callable[[Received, str], str | None]


class Watcher:
    """Subscribes, and prints what comes, across outages of the broker.

    Args:
        access: The broker.
        clock: Stamps what arrives.
        show: Returns the line for a message, None for one that is not worth a line.
        write: Where lines go.
    """

    def __init__(
        self, access: Access, clock: Clock, show: Show, write: Callable[[str], object]
    ) -> None:
        self._access = access
        self._clock = clock
        self._show = show
        self._write = write
        self._client_id = f"transom-watch-{secrets.token_hex(4)}"
        self._is_ended = False
        self._printed = 0
        self._wake_reader, self._wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def end(self) -> None:
        """End `run` soon; safe in a signal handler."""
        self._is_ended = True
        os.write(self._wake_writer, b"\0")

    def run(self, count: int | None = None, seconds: float | None = None) -> int:
        """Print until told to end; return how many lines were printed.

        Raises:
            TransomError: The broker refuses this client, or is not there at the first try.
        """
        until_s = None if seconds is None else self._clock.monotonic_s() + seconds
        try:
            self._watch(count, until_s)
        except BrokenPipeError:  # the reader has seen enough
            # Python writes what is left at exit, to a pipe that is gone.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return self._printed

    def _watch(self, count: int | None, until_s: float | None) -> None:
        retry_s = _FIRST_RETRY_S
        was_connected = False
        while not self._is_over(count, until_s):
            loss, connected = self._hold(count, until_s)
            was_connected |= connected
            if loss is None:
                return
            if not was_connected or loss.cause in ("refused", "tls"):
                raise TransomError(str(loss))
            retry_s = _FIRST_RETRY_S if connected else min(retry_s * 2.0, _LAST_RETRY_S)
            click.echo(f"{loss}; trying again in {retry_s:.0f} s", err=True)
            self._pause(retry_s, until_s)

    def _hold(self, count: int | None, until_s: float | None) -> tuple[Lost | None, bool]:
        """Hold one connection; return how it was lost, if it was, and whether it ever stood."""
        link = Link(self._access, self._client_id, self._clock)
        connected = False
        try:
            link.open()
            while not self._is_over(count, until_s):
                if link.is_frozen:
                    link.drop(Lost("lost", "broker does not answer"))
                for happening in link.turn(self._patience_s(until_s), self._wake_reader):
                    connected |= isinstance(happening, Connected)
                    if isinstance(happening, Lost):
                        return happening, connected
                    self._meet(link, happening, count)
        finally:
            link.close()
        return None, connected

    def _meet(self, link: Link, happening: Happening, count: int | None) -> None:
        topic_filter = f"{self._access.config.prefix}/#"
        match happening:
            case Connected():
                link.subscribe(topic_filter)
            case Subscribed(refusal=str(refusal)):
                raise TransomError(
                    f"broker refuses {topic_filter}: {refusal}; allow this user to read it"
                )
            case Received() if not self._is_over(count, None):
                line = self._show(happening, iso(self._clock.wall()))
                if line is not None:
                    self._write(line + "\n")
                    sys.stdout.flush()
                    self._printed += 1

    def _is_over(self, count: int | None, until_s: float | None) -> bool:
        if self._is_ended or (count is not None and self._printed >= count):
            return True
        return until_s is not None and self._clock.monotonic_s() >= until_s

    def _patience_s(self, until_s: float | None) -> float:
        if until_s is None:
            return 1.0
        return min(max(until_s - self._clock.monotonic_s(), 0.0), 1.0)

    def _pause(self, seconds: float, until_s: float | None) -> None:
        resume_s = self._clock.monotonic_s() + seconds
        while not self._is_over(None, until_s) and self._clock.monotonic_s() < resume_s:
            wait_for_wake(self._wake_reader, min(self._patience_s(until_s), 0.5))


def as_json_line(message: Received, at: str) -> str:
    """Return a message as a line for scripts."""
    line = {
        "topic": message.topic,
        "payload": decode_any(message.payload),
        "at": at,
        "retain": message.retain,
    }
    return msgspec.json.encode(line).decode()


def as_alert(message: Received, at: str) -> str | None:
    """Return a message as a line for people; None where it is no alert."""
    *_, device, subject, kind = ("", "", *message.topic.split("/"))  # may have few levels
    try:
        if kind == "event":
            event = decode(message.payload, ZoneEvent, message.topic)
            return f"{event.at}  {device}  {subject} {_told(event)}"
        if kind == "problem":
            return _told_problem(message, at)
        if kind == "status" and device not in ("", "camera"):
            text = decode_any(message.payload)
            return f"{at}  {subject}  {text}"
    except MessageError as error:
        return f"{at}  cannot be read: {error}"
    return None


def _told(event: ZoneEvent) -> str:
    match event.event_type:
        case "left_open":
            return f"left open for {_duration(event.open_s or 0.0)}"
        case "unknown":
            return f"unknown ({event.reason or 'no reason given'})"
        case "known":
            return f"known again: {event.state}"
        case _:
            what = event.state if event.state not in ("open", event.event_type) else ""
            sure = f"{event.confidence:.0%} sure"
            return f"{event.event_type} ({what + ', ' if what else ''}{sure})"


def _told_problem(message: Received, at: str) -> str | None:
    *_, device, _, camera, _ = ("", "", *message.topic.split("/"))
    problem = decode(message.payload, CameraProblem, message.topic)
    if problem.problem:
        return f"{at}  {device}  camera {camera}: {problem.reason or 'problem'}"
    return None if message.retain else f"{at}  {device}  camera {camera}: well again"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{seconds} s"


@contextmanager
def _ended_by_signals(watcher: Watcher) -> Iterator[None]:
    def end(_number: int, _frame: FrameType | None) -> None:
        watcher.end()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
