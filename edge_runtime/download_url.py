"""Fetching a bundle from an https URL, going on where a broken download ended."""

import logging
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from http.client import HTTPException, HTTPMessage
from typing import IO
from urllib.parse import unquote

from edge_runtime.download import NextMessage, PartFile
from transom.chunks import CHUNK_BYTES
from transom.config import UpdatesConfig
from transom.errors import UpdateError
from transom.updates import Install

_TIMEOUT_S = 30.0
_ATTEMPTS = 5
_SHOWN_LENGTH = 200  # of what a server says of itself
_CHUNK_S = 300.0
"""A server that takes longer for 64 KiB would hold the updates of the device for days."""

_BETWEEN_NAMES = re.compile(r"[/\\;?#&=\s]+")
_DECODED = 4
"""How often percent signs may be behind percent signs: each server on the way may decode once."""
_FULL_FILE, _PART_OF_FILE = 200, 206

_log = logging.getLogger(__name__)


def why_not_from(url: str, prefixes: Sequence[str]) -> str | None:
    """Return why a URL is none that bundles may be fetched from; None where it is one.

    A server takes `..` away with the folder before it, also where it is written in percent signs,
    once or again: behind an allowed beginning it would lead out of it.

    Args:
        url: As it is asked for, or as a server sends to it.
        prefixes: `updates.url_prefixes`.

    Examples:
        >>> why_not_from("https://depot.lan/a/b.bundle", ["https://depot.lan/a/"])
        >>> why_not_from("https://depot.lan/a/%2e%2e/b.bundle", ["https://depot.lan/a/"])
        "has '..' in it, which leads out of what updates.url_prefixes allows"
    """
    if not url.startswith(tuple(prefixes)):
        return "does not begin with one of updates.url_prefixes"
    for _ in range(_DECODED):
        url = unquote(url)
    if ".." in _BETWEEN_NAMES.split(url):
        return "has '..' in it, which leads out of what updates.url_prefixes allows"
    return None


def fetch_url(
    wish: Install,
    part: PartFile,
    terms: UpdatesConfig,
    next_message: NextMessage,
    progress: Callable[[], None],
) -> None:
    """Complete a part file from an https URL, going on where it ends.

    Args:
        wish: What is fetched; its `url` was found acceptable.
        part: Grows.
        terms: Where the server may send elsewhere to, and which certificates are trusted.
        next_message: Called between pieces and while waiting: it may raise to end the download.
        progress: Called after each piece.

    Raises:
        UpdateError: The server does not give the file, or whom to trust there is not known.
    """
    opener = _https_only(terms)
    failures = 0
    while not part.is_whole:
        before = part.have_bytes
        try:
            _fetch_rest(opener, wish, part, next_message, progress)
            failure: Exception | None = None
        except (OSError, HTTPException) as error:  # URLError is an OSError
            failure = error
            if isinstance(error, urllib.error.HTTPError):
                error.close()  # it holds the connection
        if part.is_whole:
            return
        # A server could give a byte an answer, and be asked for ever.
        failures = 0 if part.have_bytes >= before + CHUNK_BYTES else failures + 1
        if failures == _ATTEMPTS or _is_final(failure):
            why = str(failure)[:_SHOWN_LENGTH] if failure else "file ends early"
            raise UpdateError(f"{wish.url}: {why}; {part.have_bytes:,} bytes came") from failure
        _log.debug("download broken url=%s reason=%s", wish.url, failure)
        next_message(2.0**failures)


def _is_final(failure: Exception | None) -> bool:
    return isinstance(failure, urllib.error.HTTPError) and 400 <= failure.code < 500


def _fetch_rest(
    opener: urllib.request.OpenerDirector,
    wish: Install,
    part: PartFile,
    next_message: NextMessage,
    progress: Callable[[], None],
) -> None:
    headers = {"Range": f"bytes={part.have_bytes}-"} if part.have_bytes else {}
    request = urllib.request.Request(wish.url or "", headers=headers)  # noqa: S310 - https only
    with opener.open(request, timeout=_TIMEOUT_S) as answer:
        if answer.status not in (_FULL_FILE, _PART_OF_FILE):
            raise UpdateError(f"{wish.url}: answers {answer.status}, must answer 200 or 206")
        if answer.status == _FULL_FILE and part.have_bytes:
            part.restart()  # the server knows no ranges
        until_s, enough = time.monotonic() + _CHUNK_S, part.have_bytes + CHUNK_BYTES
        while data := answer.read1(CHUNK_BYTES):  # what is there: a server that drips is no wait
            part.append(data)
            progress()
            next_message(0.0)
            if part.have_bytes >= enough:
                until_s, enough = time.monotonic() + _CHUNK_S, part.have_bytes + CHUNK_BYTES
            elif time.monotonic() > until_s:
                raise UpdateError(
                    f"{wish.url}: {CHUNK_BYTES:,} bytes took more than {_CHUNK_S:.0f} s; "
                    f"{part.have_bytes:,} bytes came"
                )


class _NoFarther(urllib.request.HTTPRedirectHandler):
    """Goes where a server sends it, if bundles may be fetched from there."""

    def __init__(self, prefixes: tuple[str, ...]) -> None:
        self._prefixes = prefixes

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if why := why_not_from(newurl, self._prefixes):
            fp.close()
            raise UpdateError(f"{req.full_url}: sends to {newurl[:_SHOWN_LENGTH]}, which {why}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _https_only(terms: UpdatesConfig) -> urllib.request.OpenerDirector:
    """Return what opens URLs by https and by nothing else, also where it is redirected.

    Raises:
        UpdateError: There are no certificates where the configuration names some.
    """
    try:
        context = ssl.create_default_context(cafile=terms.ca_file)
    except OSError as error:
        raise UpdateError(
            f"updates.ca_file {terms.ca_file} must hold certificates in PEM: {error}"
        ) from error
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.HTTPSHandler(context=context),
        urllib.request.HTTPDefaultErrorHandler(),
        _NoFarther(terms.url_prefixes),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener
