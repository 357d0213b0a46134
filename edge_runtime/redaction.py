"""Keeping secrets out of what is written for people."""

import re
from urllib.parse import quote, quote_plus, urlsplit, urlunsplit

# To the next blank: a quote may be part of a password, or of a token in a query.
_USERINFO = re.compile(r"(?<=://)[^/\s]+@")
_QUERY = re.compile(r"(://[^\s?]+)\?\S*")


def shown_source(source: str) -> str:
    """Return a camera's source without user, query and fragment, which may hold secrets.

    Examples:
        >>> shown_source("rtsp://admin@cam.lan/stream?token=abc")
        'rtsp://cam.lan/stream'
    """
    if "://" not in source:
        return source
    url = urlsplit(source)
    return urlunsplit((url.scheme, url.netloc.rpartition("@")[2], url.path, "", ""))


def redact(text: str, secrets: tuple[str, ...] = ()) -> str:
    """Return text with the secrets, and whatever of a URL may be one, replaced by `***`.

    Args:
        text: For instance a line of FFmpeg.
        secrets: Replaced wherever they stand, as they are and percent-encoded.
    """
    for secret in secrets:
        for form in {secret, quote(secret, safe=""), quote_plus(secret)} - {""}:
            text = text.replace(form, "***")
    return _QUERY.sub(r"\1?***", _USERINFO.sub("***@", text))
