"""Who may ask: a token, the right host, and no other page that asks in somebody's name.

A script sends the token with each request (`Authorization: Bearer …`). A browser trades it for a
cookie that no script can read and that is not sent along from other pages (SameSite=Strict); what
changes something must come from this page's own origin and carry a second token besides, which only
a page that can read an answer knows. The host by which the page is asked for must be one of its
own, so that a foreign name that was pointed here (DNS rebinding) does not make another page of it.

References:
    OWASP, Cross-Site Request Forgery Prevention Cheat Sheet.
    W3C, Fetch Metadata Request Headers.
"""

import hashlib
import hmac
import ipaddress
import re
import secrets
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

import msgspec

SESSION_S = 30 * 86400
CSRF_HEADER = "x-csrf-token"
LOCAL_NAMES = ("localhost",)
SIGN_IN_ANEW = "the token is another; open the link that transom page or transom label prints"

_SAFE = ("GET", "HEAD")
_AUTHORITY = re.compile(r"[\w.:\[\]-]*", re.ASCII)
"""A name or an address, perhaps with a port; nothing of a path could stand in it."""


class Denial(msgspec.Struct, frozen=True):
    """Why a request is not carried out, with a status as HTTP has it."""

    status: int
    why: str


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """What tells those who may ask.

    Attributes:
        token: The secret.
        names: Host names of this page beside its addresses, lower case.
        scheme: `http` or `https`.
        port: Where it listens.
    """

    token: str
    names: tuple[str, ...]
    scheme: str
    port: int

    @property
    def cookie(self) -> str:
        """The cookie's name; a browser does not tell the ports of a host apart."""
        return f"transom_{self.port}"

    def is_token(self, said: str) -> bool:
        """Return whether a token is the right one, in a time that does not tell how nearly."""
        return hmac.compare_digest(said.encode(), self.token.encode())

    def new_session(self, now_s: float) -> str:
        """Return the value of a cookie that counts for `SESSION_S`, also after a restart.

        Args:
            now_s: Seconds since the epoch.
        """
        said = f"{int(now_s + SESSION_S)}.{secrets.token_urlsafe(12)}"
        return f"{said}.{self._seal('session', said)}"

    def is_session(self, session: str, now_s: float) -> bool:
        """Return whether a cookie's value was given here and still counts."""
        said, _, seal = session.rpartition(".")
        ends = said.partition(".")[0]
        is_ours = hmac.compare_digest(seal.encode(), self._seal("session", said).encode())
        return is_ours and now_s < int(ends)

    def csrf(self, session: str) -> str:
        """Return the second token of a session."""
        return self._seal("csrf", session)

    def refuse_origin(self, headers: Mapping[str, str]) -> Denial | None:
        """Return why a request comes from elsewhere; None where it does not.

        Args:
            headers: Of the request, by lower-case name.
        """
        host = headers.get("host", "")
        if not self._is_own(host):
            return Denial(
                421, f"this page is not {host[:80]!r}; ask for it by its address, or by a name of "
                "`names` in its configuration"
            )  # fmt: skip
        origin = headers.get("origin")
        if origin is not None and origin != f"{self.scheme}://{host}":
            return Denial(403, "another page asks; only this one may")
        site = headers.get("sec-fetch-site", "none")
        if site not in ("none", "same-origin") and not _is_followed_link(headers):
            return Denial(403, "another page asks; only this one may")
        return None

    def refuse(self, method: str, headers: Mapping[str, str], now_s: float) -> Denial | None:
        """Return why somebody may not ask; None where they may. `refuse_origin` comes first.

        Args:
            method: As HTTP has it.
            headers: Of the request, by lower-case name.
            now_s: Seconds since the epoch.
        """
        scheme, _, said = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return None if self.is_token(said.strip()) else Denial(401, SIGN_IN_ANEW)
        session = self.session_of(headers)
        if not session or not self.is_session(session, now_s):
            return Denial(401, "a token is needed")
        if method in _SAFE:
            return None
        if "origin" not in headers:
            return Denial(403, "a browser that changes something must say where it comes from")
        if not hmac.compare_digest(
            headers.get(CSRF_HEADER, "").encode(), self.csrf(session).encode()
        ):
            return Denial(403, f"{CSRF_HEADER} must be what GET /api/session says")
        return None

    def session_of(self, headers: Mapping[str, str]) -> str:
        """Return the value of the page's cookie; empty where there is none."""
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            return ""
        return "" if found is None else found.value

    def _is_own(self, host: str) -> bool:
        """Return whether a Host header names this page: an address cannot be pointed elsewhere."""
        if not _AUTHORITY.fullmatch(host):
            return False
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        if name in LOCAL_NAMES or name in self.names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _seal(self, what: str, said: str) -> str:
        return hmac.new(self.token.encode(), f"{what}:{said}".encode(), hashlib.sha256).hexdigest()


def _is_followed_link(headers: Mapping[str, str]) -> bool:
    """Return whether somebody follows a link from elsewhere: the page comes, without its cookie."""
    return (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == (
        "navigate",
        "document",
    )
