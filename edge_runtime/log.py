"""How the daemon logs: to standard error, under systemd in the journal's way."""

import logging
import os
import sys

from transom.printable import printable

_SYSLOG_LEVELS = {
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}


def start_logging(*, verbose: bool = False) -> None:
    """Log to stderr; under systemd in the journal's way, with a level and without a time."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JournalFormatter() if "JOURNAL_STREAM" in os.environ else _formatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.DEBUG if verbose else logging.INFO)


class _Formatter(logging.Formatter):
    """Keeps a message on one line: what a stranger sent must not look like a line of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        record.message = printable(record.message)
        return super().formatMessage(record)


def _formatter() -> logging.Formatter:
    return _Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")


class _JournalFormatter(_Formatter):
    """Puts the syslog level before each line, as sd-daemon(3) has it."""

    def __init__(self) -> None:
        super().__init__("%(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        level = _SYSLOG_LEVELS.get(record.levelno, 7)
        return "\n".join(f"<{level}>{line}" for line in super().format(record).splitlines())
