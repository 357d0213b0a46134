"""`transom watch`: subscribe and print what the devices say, for people or for scripts."""

import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import click
import msgspec

from edge_runtime.board import Board
from edge_runtime.broker_options import broker_access, broker_options
from edge_runtime.clock import Clock, iso
from edge_runtime.link import Access, Link, Received
from edge_runtime.loss import Lost
from edge_runtime.subscriber import Subscriber, ended_by_signals
from transom.errors import EXIT_DONE, EXIT_FAILED, MessageError
from transom.messages import (
    CameraProblem,
    ZoneEvent,
    decode,
    decode_any,
)
from transom.printable import printable
from transom.terminal import LiveTable


@click.command("watch")
@broker_options
@click.option("--json", "as_json", is_flag=True, help="One JSON line a message received.")
@click.option("--lines", "as_lines", is_flag=True, help="A line an alert in a terminal, too.")
@click.option("--count", type=click.IntRange(min=1), help="End after so many lines.")
@click.option(
    "--seconds", type=click.FloatRange(min=0, min_open=True), help="End after so many seconds."
)
def watch_command(
    config_file: Path | None,
    as_json: bool,
    as_lines: bool,
    count: int | None,
    seconds: float | None,
    **broker: Any,
) -> int:
    """Show every zone as it is now, and alerts as they arrive, until Ctrl-C.

    In a terminal a table that is written again in place; elsewhere, and with --lines or --count, a
    line an alert. With --count, ends with 1 when the seconds are over before so many lines came.

    \b
    Example:
        transom watch --host broker.lan --username me --password-file ~/.mqtt-password
        transom watch --config /etc/transom/transom.toml --json --count 1
    """
    access = broker_access(config_file, broker)
    show = as_json_line if as_json else as_alert
    is_live = sys.stdout.isatty() and not (as_json or as_lines or count)
    tell: Tell = LivePrinter(access.config.prefix) if is_live else LinePrinter(show, count)
    watcher = Watcher(access, Clock(), tell)
    with ended_by_signals(watcher.end):
        watcher.run(seconds)
    return EXIT_FAILED if count is not None and tell.printed < count and seconds else EXIT_DONE


Show = Callable[[Received, str], str | None]


class Tell(Protocol):
    """How what comes is shown."""

    printed: int

    def take(self, received: list[Received], at: str) -> bool:
        """Show messages that came at a time; return whether that was enough."""

    def tell_loss(self, loss: Lost, retry_s: float) -> None:
        """Say that the broker went, and in how many seconds it is tried again."""


class LinePrinter:
    """Prints a line a message.

    Args:
        show: Returns the line for a message, None for one that is not worth a line.
        count: Lines that are enough; None = there are never enough.
    """

    def __init__(self, show: Show, count: int | None) -> None:
        self.printed = 0
        self._show = show
        self._count = count

    def take(self, received: list[Received], at: str) -> bool:
        """Print messages that came at a time; return whether that was enough."""
        for message in received:
            line = self._show(message, at)
            if line is not None:
                sys.stdout.write(line + "\n")
                sys.stdout.flush()
                self.printed += 1
            if self.printed == self._count:
                return True
        return False

    def tell_loss(self, loss: Lost, retry_s: float) -> None:
        """Say that the broker went, and in how many seconds it is tried again."""
        click.echo(_loss(loss, retry_s), err=True)


class LivePrinter:
    """Writes a table again in place, in a terminal.

    Args:
        prefix: First levels of the topics.
    """

    def __init__(self, prefix: str) -> None:
        self.printed = 0
        self._board = Board(prefix)
        self._table = LiveTable(sys.stdout)
        self._table.show(self._board.lines())

    def take(self, received: list[Received], at: str) -> bool:
        """Show messages that came at a time; there are never enough."""
        self._board.notice = ""
        for message in received:
            self._board.take(message, as_alert(message, at))
        self._table.show(self._board.lines())
        return False

    def tell_loss(self, loss: Lost, retry_s: float) -> None:
        """Say that the broker went, and in how many seconds it is tried again."""
        self._board.notice = _loss(loss, retry_s)
        self._table.show(self._board.lines())


class Watcher:
    """Shows what comes, across outages of the broker.

    Args:
        access: The broker.
        clock: Stamps what arrives.
        tell: Shows it.
    """

    def __init__(self, access: Access, clock: Clock, tell: Tell) -> None:
        self._clock = clock
        client_id = f"transom-watch-{secrets.token_hex(4)}"
        self._subscriber = Subscriber(
            lambda: Link(access, client_id, clock),
            f"{access.config.prefix}/#",
            clock,
            lambda _link, received: tell.take(received, iso(clock.wall())),
            tell.tell_loss,
        )

    def end(self) -> None:
        """End `run` soon; safe in a signal handler."""
        self._subscriber.end()

    def run(self, seconds: float | None = None) -> None:
        """Show what comes until told to end, until there is enough, or for so many seconds.

        Raises:
            TransomError: The broker refuses this client, or is not there at the first try.
        """
        until_s = None if seconds is None else self._clock.monotonic_s() + seconds
        try:
            self._subscriber.run(until_s)
        except BrokenPipeError:  # the reader has seen enough
            # Python writes what is left at exit, to a pipe that is gone.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _loss(loss: Lost, retry_s: float) -> str:
    return f"{loss}; trying again in {retry_s:g} s"


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
    if not message.payload and kind != "event":
        return None  # what was retained is taken away
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
