"""Connections of strangers: however many there are, they keep nobody out who may ask."""

import asyncio
import itertools
from collections import Counter
from ipaddress import ip_network
from typing import Any

from starlette.types import Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

PATIENCE_S = 15.0
"""Within twice this a request must have come whole and its answer have gone."""

MOST_AT_ONCE = 32
"""Connections that are held at once."""

MOST_TAKEN_AT_ONCE = MOST_AT_ONCE // 2
"""Connections that come in before those that did last are read: so none of these is displaced
before it could say who it is.
"""

_IS_KNOWN = "transom.is_known"


def welcome(scope: Scope) -> None:
    """Note that who sent a request may ask; no stranger takes the place of its connection."""
    scope[_IS_KNOWN] = True


class ImpatientProtocol(H11Protocol):
    """HTTP as uvicorn speaks it, but for connections that make no progress or no room.

    uvicorn ends one that is idle after an answer; one on which no request, or half of one, ever
    comes it keeps for ever. And where there are too many it refuses every request, whose ever it
    is; here a newcomer takes the place of a stranger, one of those who have come from where most
    strangers are.
    """

    patience_s = PATIENCE_S
    _numbers = itertools.count()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to watch."""
        super().connection_made(transport)
        self.number = next(self._numbers)
        self.origin = origin_of(self.client)
        self._looked_at: Any = None
        self._next_look = self.loop.call_later(self.patience_s, self._look)
        if len(self.connections) > MOST_AT_ONCE:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Watch no more."""
        self._next_look.cancel()
        super().connection_lost(exc)

    @property
    def is_known(self) -> bool:
        """Whether who sent the last request may ask."""
        return self.scope is not None and _IS_KNOWN in self.scope

    def _make_room(self) -> None:
        """End the oldest connection from where most strangers are; it may be this one."""
        ours = (other for other in self.connections if isinstance(other, ImpatientProtocol))
        strangers = [other for other in ours if not other.is_known]
        crowds = Counter(other.origin for other in strangers)
        least_wanted = max(strangers, key=lambda other: (crowds[other.origin], -other.number))
        self.connections.discard(least_wanted)
        least_wanted.transport.abort()

    def _look(self) -> None:
        """Close where the request is still the one of the last look, or there is none."""
        if self.cycle is self._looked_at:
            self.transport.close()
            return
        self._looked_at = self.cycle
        self._next_look = self.loop.call_later(self.patience_s, self._look)


def origin_of(client: tuple[str, int] | None) -> str:
    """Return where a connection comes from; a host has as many addresses of IPv6 as it likes.

    Examples:
        >>> origin_of(("2001:db8::7", 40000)) == origin_of(("2001:db8::9:1", 40001))
        True
    """
    host = "" if client is None else client[0].partition("%")[0]
    return str(ip_network((host, 64), strict=False)) if ":" in host else host
