"""A few words with a broker over a link of one's own: what was said, and waiting for an answer."""

from collections.abc import Callable

from edge_runtime.clock import Clock
from edge_runtime.link import Acknowledged, Connected, Link, Received, Subscribed
from edge_runtime.loss import Lost
from transom.messages import Message

BROKER_TIMEOUT_S = 15.0
_NO_ANSWER = "no answer"


class Conversation:
    """What a link said, so that answers may come in any order.

    Args:
        link: Not yet opened.
        clock: For time limits.

    Attributes:
        loss: Why the link has ended; None = it has not.
    """

    def __init__(self, link: Link, clock: Clock) -> None:
        self._link = link
        self._clock = clock
        self._heard: list[object] = []
        self.loss: Lost | None = None

    def begin(self) -> bool:
        """Open the link; return whether the broker has accepted it."""
        self._link.open()
        return self.wait_for(lambda h: isinstance(h, Connected)) is not None

    def subscribe(self, topic: str) -> str | None:
        """Ask for messages; return why not, None where they will come."""
        mid = self._link.subscribe(topic)
        answer = self.wait_for(lambda h: isinstance(h, Subscribed) and h.mid == mid)
        return answer.refusal if isinstance(answer, Subscribed) else self._why_silent()

    def publish(self, message: Message) -> str | None:
        """Publish a message of QoS 1; return why the broker did not take it, None where it did."""
        mid = self._link.publish(message)
        answer = self.wait_for(lambda h: isinstance(h, Acknowledged) and h.mid == mid)
        return answer.refusal if isinstance(answer, Acknowledged) else self._why_silent()

    def _why_silent(self) -> str:
        return _NO_ANSWER if self.loss is None else self.loss.reason

    def hear(self, is_it: Callable[[Received], bool], timeout_s: float) -> Received | None:
        """Return the first message that `is_it`; None where none comes in time."""
        found = self.wait_for(lambda h: isinstance(h, Received) and is_it(h), timeout_s)
        return found if isinstance(found, Received) else None

    def why_not_heard(self, is_it: Callable[[Received], bool], timeout_s: float) -> str | None:
        """Return why what was published has not come to those who listen; None where it has.

        Protocol 3.1.1 acknowledges what it throws away, so that only this proves anything.
        """
        heard = self.hear(is_it, timeout_s)
        return "acknowledged, but nothing came back" if heard is None else None

    def wait_for(
        self, is_it: Callable[[object], bool], timeout_s: float = BROKER_TIMEOUT_S
    ) -> object | None:
        """Return the first happening that `is_it`; None where the link ends or stays silent."""
        until_s = self._clock.monotonic_s() + timeout_s
        while True:
            found = next(filter(is_it, self._heard), None)
            left_s = until_s - self._clock.monotonic_s()
            if found is not None or self.loss is not None or left_s <= 0:
                return found
            for happening in self._link.turn(min(left_s, 1.0)):
                self._heard.append(happening)
                if isinstance(happening, Lost):
                    self.loss = happening
