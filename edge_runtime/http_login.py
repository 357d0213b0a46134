"""User and password shown to a camera that asks for them by HTTP, by digest wherever it takes one.

Python's own handlers look at the first challenge only, know of MD5 only and encode as ASCII; newer
cameras ask for SHA-256 before MD5, or offer something else before both.

References:
    https://www.rfc-editor.org/rfc/rfc7616
"""

import base64
import hashlib
import re
import secrets
import urllib.request
from collections import Counter
from collections.abc import Iterable
from email.message import Message
from http.client import HTTPResponse
from typing import IO, NamedTuple
from urllib.parse import SplitResult, urlsplit

_SCHEME = re.compile(r"([A-Za-z][\w-]*)(?:\s+(?!=)(.*))?", re.DOTALL)
_HASHES = {"md5": "md5", "sha-256": "sha256"}
_MOST_TRIES = 2
"""A nonce may be too old by the time it is used; the password is not wrong then."""


class Challenge(NamedTuple):
    """What a server asks for.

    Attributes:
        scheme: In lower case: `basic`, `digest`, …
        parameters: By their names in lower case.
    """

    scheme: str
    parameters: dict[str, str]


def challenges(headers: Iterable[str]) -> list[Challenge]:
    """Return what the headers WWW-Authenticate of an answer ask for, in their order.

    Examples:
        >>> challenges(['Basic realm="a, b", Digest nonce=1'])[1]
        Challenge(scheme='digest', parameters={'nonce': '1'})
    """
    found: list[Challenge] = []
    for header in headers:
        for item in urllib.request.parse_http_list(header):
            began = _SCHEME.fullmatch(item)
            if began is not None:
                found.append(Challenge(began[1].lower(), {}))
            parameter = item if began is None else began[2] or ""
            name, is_given, value = parameter.partition("=")
            if is_given and found:
                found[-1].parameters[name.strip().lower()] = _unquoted(value.strip())
    return found


class HttpLogin(urllib.request.BaseHandler):
    """Answers one server's challenges; for one `open`.

    Args:
        source: URL of the server that user and password are for, and nobody else.
        username: The user.
        secret: The password.
        is_basic: Whether the password itself may be sent, to a server that asks for it so.
    """

    def __init__(self, source: str, username: str, secret: str, *, is_basic: bool) -> None:
        self._place = urlsplit(source)
        self._username = username
        self._secret = secret
        self._is_basic = is_basic
        self._tries: Counter[str] = Counter()  # by URL: a server may send on to another of its own

    def http_error_401(
        self,
        request: urllib.request.Request,
        answer: IO[bytes],
        code: int,
        reason: str,
        headers: Message,
    ) -> HTTPResponse | None:
        """Ask again with user and password; None = they do not help."""
        asked = challenges(headers.get_all("WWW-Authenticate", ()))
        is_stale = any(one.parameters.get("stale", "").lower() == "true" for one in asked)
        line = self._answer(request, asked) if self._is_for(request) else None
        if line is None or self._tries[request.full_url] >= (_MOST_TRIES if is_stale else 1):
            return None
        self._tries[request.full_url] += 1
        answer.close()
        request.add_unredirected_header("Authorization", line)
        opened: HTTPResponse = self.parent.open(request, timeout=request.timeout)
        return opened

    def _is_for(self, request: urllib.request.Request) -> bool:
        """Whether a request, perhaps sent on by an answer, goes to the server of the password."""
        url, place = urlsplit(request.full_url), self._place
        is_weaker = place.scheme == "https" != url.scheme
        is_there = (url.hostname, _own_port(url)) == (place.hostname, _own_port(place))
        return is_there and not is_weaker

    def _answer(self, request: urllib.request.Request, asked: list[Challenge]) -> str | None:
        for challenge in asked:
            if challenge.scheme == "digest":
                line = self._digest(request, challenge.parameters)
                if line is not None:
                    return line
        if self._is_basic and any(challenge.scheme == "basic" for challenge in asked):
            both = f"{self._username}:{self._secret}".encode()
            return f"Basic {base64.b64encode(both).decode()}"
        return None

    def _digest(self, request: urllib.request.Request, asked: dict[str, str]) -> str | None:
        """Return the answer to a digest challenge; None where it is of an unknown kind."""
        named = asked.get("algorithm", "MD5").lower()
        algorithm = named.removesuffix("-sess")
        ways = [way.strip().lower() for way in asked.get("qop", "auth").split(",")]
        if algorithm not in _HASHES or "nonce" not in asked or "auth" not in ways:
            return None

        def hashed(*parts: str) -> str:
            # What came in a header is text of its bytes, one each.
            data = ":".join(parts).encode("latin-1")
            return hashlib.new(_HASHES[algorithm], data, usedforsecurity=False).hexdigest()

        username, secret = (
            text.encode().decode("latin-1") for text in (self._username, self._secret)
        )
        realm, nonce, uri = asked.get("realm", ""), asked["nonce"], request.selector
        count, own_nonce = "00000001", secrets.token_hex(8)
        inner = hashed(username, realm, secret)
        if named != algorithm:
            inner = hashed(inner, nonce, own_nonce)
        outer = hashed(request.get_method(), uri)
        told = {"username": username, "realm": realm, "nonce": nonce, "uri": uri}
        if "qop" in asked:
            told["response"] = hashed(inner, nonce, count, own_nonce, "auth", outer)
            told["cnonce"] = own_nonce
        else:
            told["response"] = hashed(inner, nonce, outer)
        if "opaque" in asked:
            told["opaque"] = asked["opaque"]
        line = ", ".join(f'{name}="{_escaped(value)}"' for name, value in told.items())
        line += f", qop=auth, nc={count}" if "qop" in asked else ""
        line += f", algorithm={asked['algorithm']}" if "algorithm" in asked else ""
        return f"Digest {line}"


def _own_port(url: SplitResult) -> int | None:
    """Return a URL's port; None = the one that its scheme has, whichever: some send on to https."""
    return None if url.port == {"http": 80, "https": 443}.get(url.scheme) else url.port


def _unquoted(value: str) -> str:
    if len(value) < 2 or not value.startswith('"') or not value.endswith('"'):
        return value
    return re.sub(r"\\(.)", r"\1", value[1:-1])


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')
