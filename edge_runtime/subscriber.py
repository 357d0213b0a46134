"""Holding a subscription across outages of the broker, until told to end.

`transom watch` and the recorders of a fleet both do it, each with what it makes of a message.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from edge_runtime.clock import Clock
from edge_runtime.link import Connected, Link, Received, Subscribed
from edge_runtime.loss import Lost
from edge_runtime.wake import Wake
from transom.errors import TransomError

_TURN_S = 1.0
_FIRST_RETRY_S = 0.5
_LAST_RETRY_S = 30.0


class Subscriber:
    """One subscription.

    Args:
        open_link: Returns a new connection; an ended one is never opened again.
        topic_filter: What to hear.
        clock: For deadlines.
        take: Gets what has come, several at a time, with the connection, and returns whether that
            was enough.
        tell: Told of a loss and in how many seconds it is tried again.
    """

    def __init__(
        self,
        open_link: Callable[[], Link],
        topic_filter: str,
        clock: Clock,
        take: Callable[[Link, list[Received]], bool],
        tell: Callable[[Lost, float], None] = lambda _loss, _retry_s: None,
    ) -> None:
        self._wake = Wake()
        self._open_link = open_link
        self._filter = topic_filter
        self._clock = clock
        self._take = take
        self._tell = tell
        self._until_s: float | None = None
        self._is_ended = False

    def end(self) -> None:
        """End `run` soon; safe in a signal handler."""
        self._is_ended = True
        self._wake.set()

    def run(self, until_s: float | None = None) -> None:
        """Hear until `take` has enough, until told to end, or until a monotonic time.

        Raises:
            TransomError: The broker refuses this client or the subscription, is not there at the
                first try, or gives the client's name to another.
        """
        self._until_s = until_s
        retry_s, was_connected = _FIRST_RETRY_S, False
        while not self._is_over():
            loss, connected = self._hold()
            was_connected |= connected
            if loss is None:
                return
            if not was_connected or loss.cause in ("refused", "tls") or loss.do:
                raise TransomError(str(loss))
            retry_s = _FIRST_RETRY_S if connected else min(2.0 * retry_s, _LAST_RETRY_S)
            self._tell(loss, retry_s)
            self._pause(retry_s)

    def _hold(self) -> tuple[Lost | None, bool]:
        """Hold one connection; return how it was lost, if it was, and whether it ever stood."""
        link, connected = self._open_link(), False
        try:
            link.open()
            while not self._is_over():
                if link.is_frozen:
                    link.drop(Lost("lost", "broker does not answer"))
                happenings = link.turn(self._patience_s(), self._wake)
                received = [one for one in happenings if isinstance(one, Received)]
                if received and self._take(link, received):
                    self._is_ended = True
                for happening in happenings:
                    match happening:
                        case Lost():
                            return happening, connected
                        case Connected():
                            connected = True
                            link.subscribe(self._filter)
                        case Subscribed(refusal=str(refusal)):
                            raise TransomError(
                                f"broker refuses {self._filter}: {refusal}; allow this user to "
                                "read it"
                            )
        finally:
            link.close()
        return None, connected

    def _is_over(self) -> bool:
        is_late = self._until_s is not None and self._clock.monotonic_s() >= self._until_s
        return self._is_ended or is_late

    def _patience_s(self) -> float:
        if self._until_s is None:
            return _TURN_S
        return min(max(self._until_s - self._clock.monotonic_s(), 0.0), _TURN_S)

    def _pause(self, seconds: float) -> None:
        resume_s = self._clock.monotonic_s() + seconds
        while not self._is_over() and (left_s := resume_s - self._clock.monotonic_s()) > 0.0:
            self._wake.wait(min(self._patience_s(), left_s))


@contextmanager
def ended_by_signals(end: Callable[[], None]) -> Iterator[None]:
    """Call `end` on SIGINT and SIGTERM while the block runs."""

    def ask(_number: int, _frame: FrameType | None) -> None:
        end()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
