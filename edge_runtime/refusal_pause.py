"""How long a device leaves wishes alone after it has refused some.

Each refusal is kept on the card until it is heard. Who may publish what is desired could otherwise
have the device write gigabytes a day.
"""

_AT_FIRST = 16
"""So many are told a second after each other: nobody who only errs refuses more in a row."""
_FIRST_S = 1.0
_MOST_S = 60.0
_FORGOTTEN_S = 600.0
"""After so long without a refusal the next one is the first again."""


class RefusalPause:
    """Waits a second after each refusal, and longer and longer after many, up to a minute.

    Of the wishes that come in a pause the newest is taken up, the others were taken back.

    Examples:
        >>> pause = RefusalPause()
        >>> pause.pause_s(0.0)
        0.0
        >>> pause.note(1.0)
        >>> pause.pause_s(1.5)
        0.5
    """

    def __init__(self) -> None:
        self._last_s: float | None = None
        self._count = 0

    def note(self, now_s: float) -> None:
        """Take in that something was refused just now; monotonic seconds."""
        is_first = self._last_s is None or now_s - self._last_s > _FORGOTTEN_S
        self._count = 1 if is_first else self._count + 1
        self._last_s = now_s

    def pause_s(self, now_s: float) -> float:
        """Return how long nothing is to be taken up from now on, seconds."""
        if self._last_s is None:
            return 0.0
        doublings = min(max(self._count - _AT_FIRST, 0), 16)
        return max(self._last_s + min(_FIRST_S * 2.0**doublings, _MOST_S) - now_s, 0.0)
