"""`transom watch`: subscribe and print what the devices say, for people or for scripts."""

import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from edge_runtime.broker_options import broker_access, broker_options
from edge_runtime.clock import Clock, iso
from edge_runtime.link import Access, Link, Lost, Received
from edge_runtime.subscriber import Subscriber, ended_by_signals
from transom.errors import EXIT_DONE, EXIT_FAILED, MessageError
from transom.messages import (
    CameraProblem,
    ZoneEvent,
    decode,
    decode_any,
)
from transom.printable import printable


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
    with ended_by_signals(watcher.end):
        printed = watcher.run(count, seconds)
    return EXIT_FAILED if count is not None and printed < count and seconds else EXIT_DONE


Show = Callable[[Received, str], str | None]


class Watcher:
    """Prints what comes, across outages of the broker.

    Args:
        access: The broker.
        clock: Stamps what arrives.
        show: Returns the line for a message, None for one that is not worth a line.
        write: Where lines go.
    """

    def __init__(
        self, access: Access, clock: Clock, show: Show, write: Callable[[str], object]
    ) -> None:
        self._clock = clock
        self._show = show
        self._write = write
        self._count: int | None = None
        self._printed = 0
        client_id = f"transom-watch-{secrets.token_hex(4)}"
        self._subscriber = Subscriber(
            lambda: Link(access, client_id, clock),
            f"{access.config.prefix}/#",
            clock,
            self._print,
            _tell_loss,
        )

    def end(self) -> None:
        """End `run` soon; safe in a signal handler."""
        self._subscriber.end()

    def run(self, count: int | None = None, seconds: float | None = None) -> int:
        """Print until told to end; return how many lines were printed.

        Raises:
            TransomError: The broker refuses this client, or is not there at the first try.
        """
        self._count = count
        until_s = None if seconds is None else self._clock.monotonic_s() + seconds
        try:
            self._subscriber.run(until_s)
        except BrokenPipeError:  # the reader has seen enough
            # Python writes what is left at exit, to a pipe that is gone.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return self._printed

    def _print(self, _link: Link, received: list[Received]) -> bool:
        for message in received:
            line = self._show(message, iso(self._clock.wall()))
            if line is not None:
                self._write(line + "\n")
                sys.stdout.flush()
                self._printed += 1
            if self._printed == self._count:
                return True
        return False


def _tell_loss(loss: Lost, retry_s: float) -> None:
    click.echo(f"{loss}; trying again in {retry_s:g} s", err=True)


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
    told = _alert(message, at)
    return None if told is None else printable(told)


def _alert(message: Received, at: str) -> str | None:
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
