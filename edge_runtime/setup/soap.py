"""SOAP as ONVIF speaks it: a request with a password's digest, and an answer without surprises."""

import base64
import hashlib
import http.client
import secrets
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from edge_runtime.mjpeg import http_opener
from edge_runtime.redaction import redact
from transom.errors import CameraError

MOST_BYTES = 1 << 20
"""Of an answer."""

_TIMEOUT_S = 5.0
_ENVELOPE = "http://www.w3.org/2003/05/soap-envelope"
_WSS = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss"
_DIGEST = f"{_WSS}-username-token-profile-1.0#PasswordDigest"
_BASE64 = f"{_WSS}-soap-message-security-1.0#Base64Binary"


@dataclass(frozen=True)
class Credentials:
    """Who asks.

    Attributes:
        username: As the camera knows him.
        secret: His password; never sent itself.
        ahead: How far the camera's clock is ahead of this machine's.
    """

    username: str
    secret: str
    ahead: timedelta = timedelta()


class _NoDoctype(ElementTree.TreeBuilder):
    """A tree without what a document type could define: entities that grow, files that are read."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ElementTree.ParseError("has a document type")


def parse(data: bytes, what: str) -> ElementTree.Element:
    """Return a stranger's XML as a tree.

    Args:
        data: At most `MOST_BYTES` are read.
        what: Who sent it, for the message.

    Raises:
        CameraError: It is none.
    """
    parser = ElementTree.XMLParser(target=_NoDoctype())  # noqa: S314 - see _NoDoctype
    try:
        parser.feed(data[:MOST_BYTES])
        root: Any = parser.close()
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise CameraError(f"{what}: its answer is not XML: {error}") from error
    if not isinstance(root, ElementTree.Element):
        raise CameraError(f"{what}: its answer is empty")
    return root


def named(tree: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    """Yield the elements of a name, in whatever namespace a camera puts them."""
    for element in tree.iter():
        if isinstance(element.tag, str) and element.tag.rpartition("}")[2] == name:
            yield element


def text_of(tree: ElementTree.Element, name: str) -> str:
    """Return the text of the first element of a name; empty where there is none."""
    found = next(named(tree, name), None)
    return "" if found is None or found.text is None else found.text.strip()


def envelope(body: str, header: str = "") -> bytes:
    """Return a SOAP 1.2 message."""
    head = f"<s:Header>{header}</s:Header>" if header else ""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><s:Envelope xmlns:s="{_ENVELOPE}">{head}'
        f"<s:Body>{body}</s:Body></s:Envelope>"
    ).encode()


def password_digest(nonce: bytes, created: str, secret: str) -> str:
    """Return the digest that a WS-Security user name token carries instead of the password.

    References:
        OASIS Web Services Security UsernameToken Profile 1.1, 3.1.

    Examples:
        >>> password_digest(b"0123456789abcdef", "2026-01-01T00:00:00Z", "geheim")
        'oD7yXxp0ahzMzHPEOIsYLGdCZ1s='
    """
    joined = nonce + created.encode() + secret.encode()
    return base64.b64encode(hashlib.sha1(joined, usedforsecurity=False).digest()).decode()


def call(url: str, body: str, credentials: Credentials | None = None) -> ElementTree.Element:
    """Ask a camera, and return its answer.

    The password is shown as a digest only: in the message, and again to a camera that asks for it
    by HTTP.

    Raises:
        CameraError: It does not answer, or refuses; no secret is in the message.
    """
    header = "" if credentials is None else _token(credentials)
    user, secret = (credentials.username, credentials.secret) if credentials else (None, None)
    request = urllib.request.Request(  # noqa: S310 - what opens it speaks HTTP only
        url,
        envelope(body, header),
        {"Content-Type": "application/soap+xml; charset=utf-8"},
    )
    try:
        with http_opener(url, user, secret, is_basic=False).open(
            request, timeout=_TIMEOUT_S
        ) as answer:
            return parse(answer.read(MOST_BYTES), url)
    except urllib.error.HTTPError as error:
        with error:
            raise CameraError(f"{url}: {_refusal(error, url)}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise CameraError(f"{url}: {_why_no_answer(error)}") from error


def _why_no_answer(error: Exception) -> str:
    """Return why a camera cannot be spoken to, and what to do about it."""
    reason = getattr(error, "reason", error)
    if isinstance(reason, http.client.HTTPException):
        return "does not speak HTTP; is this the port of its ONVIF service (onvif://HOST:PORT)?"
    if isinstance(reason, TimeoutError):
        return f"does not answer within {_TIMEOUT_S:g} s; is it on, and in this network?"
    if isinstance(reason, socket.gaierror):
        return "has no address; check its name, or name the camera by its address"
    if isinstance(reason, ConnectionRefusedError):
        return (
            f"{reason.strerror}; is ONVIF on in the camera, and is this its port "
            "(onvif://HOST:PORT)?"
        )
    if isinstance(reason, OSError) and reason.strerror:
        return f"{reason.strerror}; is it on, and in this network?"
    return redact(str(reason)) or type(error).__name__


def _refusal(error: urllib.error.HTTPError, url: str) -> str:
    """Return why a camera refuses: what its fault says, or else HTTP's word."""
    said = f"answers {error.code} {error.reason}"
    try:
        fault = parse(error.read(MOST_BYTES), url)
    except (CameraError, OSError, http.client.HTTPException):
        return said
    codes = " ".join((value.text or "").strip() for value in named(fault, "Value"))
    if "NotAuthorized" in codes or "FailedAuthentication" in codes:
        return "refuses this user; are user and password those of an ONVIF user of the camera?"
    return f"{said}: {text_of(fault, 'Text')[:200]}" if text_of(fault, "Text") else said


def _token(credentials: Credentials) -> str:
    nonce = secrets.token_bytes(16)
    created = (datetime.now(UTC) + credentials.ahead).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    digest = password_digest(nonce, created, credentials.secret)
    encoded = base64.b64encode(nonce).decode()
    return (
        f'<w:Security xmlns:w="{_WSS}-wssecurity-secext-1.0.xsd" '
        f'xmlns:u="{_WSS}-wssecurity-utility-1.0.xsd"><w:UsernameToken>'
        f"<w:Username>{escape(credentials.username)}</w:Username>"
        f'<w:Password Type="{_DIGEST}">{digest}</w:Password>'
        f'<w:Nonce EncodingType="{_BASE64}">{encoded}</w:Nonce>'
        f"<u:Created>{created}</u:Created></w:UsernameToken></w:Security>"
    )
