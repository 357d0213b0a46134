"""Which layout of the state directory this Transom writes, and which it must leave alone.

A device may get an older version again. What a later one has laid down there (events, samples, what
was learnt) must not be read by one that knows only an earlier layout, and silently lost.
"""

import logging
from pathlib import Path

from transom.atomic import write_file
from transom.errors import ConfigurationError

_log = logging.getLogger(__name__)

FORMAT = 1
"""Raised with the first change that an earlier Transom cannot read."""
FILE_NAME = "format"

_MOST_DIGITS = 9
"""Of a number that any version writes; Python refuses to read thousands of them."""


def check_state_format(folder: Path) -> None:
    """Refuse a state directory that a later Transom has written.

    One without a number is of the first format, or new. One whose file holds no number is taken for
    such: no version writes that, a failing card does, and a device must not stay down over it. One
    that this user may not look into is left to those who may.

    Args:
        folder: The state directory; it need not be there.

    Raises:
        ConfigurationError: Its format is later than this version's.
    """
    path = folder / FILE_NAME
    try:
        text = path.read_text("ascii", errors="replace").strip()
    except OSError:
        return
    if not text.isdecimal() or len(text) > _MOST_DIGITS:
        _log.warning(
            "the state's format is damaged and taken for the first path=%s holds=%s",
            path,
            ascii(text)[:40],
        )
        return
    if int(text) > FORMAT:
        raise ConfigurationError(
            f"{folder}: a later Transom has written it, in format {text}; this one reads up "
            f"to {FORMAT}. Install the later version again, or move the folder away to begin anew"
        )


def note_state_format(folder: Path) -> None:
    """Write this version's format where it is not written yet; a full disk stops nobody."""
    path, data = folder / FILE_NAME, f"{FORMAT}\n".encode()
    try:
        if not path.exists() or path.read_bytes() != data:
            write_file(path, data)
    except OSError as error:
        _log.warning("the state's format cannot be written reason=%s", error)
