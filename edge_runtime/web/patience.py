"""Connections on which nothing gets on: some that say nothing would keep out everybody else."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

PATIENCE_S = 15.0
"""Within twice this a request must have come whole and its answer have gone."""


class ImpatientProtocol(H11Protocol):
    """HTTP as uvicorn speaks it, but for a connection that makes no progress.

    uvicorn ends one that is idle after an answer; one on which no request, or half of one, ever
    comes counts among those that are served at once, for ever.
    """

    patience_s = PATIENCE_S

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to watch."""
        super().connection_made(transport)
        self._looked_at: Any = None
        self._next_look = self.loop.call_later(self.patience_s, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Watch no more."""
        self._next_look.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        """Close where the request is still the one of the last look, or there is none."""
        if self.cycle is self._looked_at:
            self.transport.close()
            return
        self._looked_at = self.cycle
        self._next_look = self.loop.call_later(self.patience_s, self._look)
