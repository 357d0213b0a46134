"""What a zone keeps and is taught: the way from a look to the store, and from labels to answers."""

from collections.abc import Callable
from dataclasses import replace
from random import Random

from edge_runtime.contact import ContactTeacher
from edge_runtime.lessons import ZoneLessons
from edge_runtime.picking import Picker
from edge_runtime.samples import SampleStore
from edge_runtime.seen import SampledZone, Seen, make_sample
from transom.config import ContactConfig, SamplesConfig
from transom.few_shot import Examples
from transom.messages import FORGET_ALL, FORGET_LAST, Taught


class ZoneSamples:
    """Keeps what is worth a label of one zone, and judges it by what was labelled.

    Attributes:
        lessons: What the zone is taught.
        contact: What the zone's contact sensor says and teaches; None = it has none.

    Args:
        zone: The zone.
        store: Where pictures are kept.
        guard: Pictures of other places, of the classes that the zone tells.
        config: The pace.
        random: Where chance comes from.
        contact: The zone's contact sensor.
    """

    def __init__(
        self,
        zone: SampledZone,
        store: SampleStore,
        guard: Examples,
        config: SamplesConfig,
        random: Random,
        contact: ContactConfig | None = None,
    ) -> None:
        self._zone = zone
        self._store = store
        self._picker = Picker(config, random)
        self.lessons = ZoneLessons(zone, store, guard)
        self.contact: ContactTeacher | None = None
        if contact is not None:
            self.contact = ContactTeacher(
                zone, self.lessons, contact.topic, is_inverted=contact.inverted
            )

    @property
    def classes(self) -> tuple[str, ...]:
        """What the zone tells, and may be corrected to."""
        return self._zone.classes

    def correct(self, said: str, now_ns: int, by: str) -> None:
        """Take in a correction: a class, `FORGET_LAST` or `FORGET_ALL`; `by` = by which way."""
        forget: dict[str, Callable[[], None]] = {
            FORGET_LAST: self.lessons.forget_last,
            FORGET_ALL: self.lessons.forget_all,
        }
        if said in forget:
            forget[said]()
        else:
            self.lessons.label(said, by, now_ns)

    def is_waiting(self, now_ns: int) -> bool:
        """Return whether the next picture is wanted, whatever moves in it."""
        return self.lessons.is_waiting(now_ns)

    def judge(self, seen: Seen) -> Seen:
        """Learn what waits for this look; return the look as it is judged with what was learnt."""
        if self.contact is not None:
            self.contact.look(seen)
        self.lessons.look(seen)
        probabilities, is_unlike = self.lessons.judge(seen)
        return replace(
            seen,
            probabilities=probabilities,
            is_unlike=is_unlike,
            is_believed=not is_unlike and self._zone.believes(probabilities),
        )

    def keep(self, seen: Seen, judged: Seen, *, has_changed: bool) -> None:
        """Keep a look where it is worth it.

        Args:
            seen: As the bundle alone judges it: that is what is kept.
            judged: As it was judged: that is what decides.
            has_changed: Whether it changed the zone's state.
        """
        why = self._picker.why_keep(
            seen.taken_ns / 1e9,
            int(judged.probabilities.argmax()),
            is_unlike=judged.is_unlike,
            is_believed=judged.is_believed,
            has_changed=has_changed,
        )
        if why is not None:
            self._store.add(make_sample(self._zone, seen, why))

    def taught(self) -> Taught | None:
        """Return what is published of what the zone was taught; None = nothing."""
        return self.lessons.taught()
