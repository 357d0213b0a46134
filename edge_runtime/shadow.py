"""A new network beside the one that serves: both judge the same looks, and how often they agree."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edge_runtime.camera_watch import Look
from edge_runtime.classifier import Answers
from edge_runtime.trial import Trial
from transom.crop import Image, crop_zone
from transom.errors import UpdateError
from transom.manifest import InputSpec, Manifest
from transom.prediction import UNKNOWN_INDEX
from transom.preprocess import preprocess
from transom.tasks import UNKNOWN


@dataclass(frozen=True)
class SharedLooks:
    """What the network that serves has just judged, as the new one wants to see it.

    Attributes:
        crops: (N, S, S, 3) uint8 BGR, S of the new network.
        said: By crop: the zone's task, and the class or `unknown` that the serving network gives.
    """

    crops: Image
    said: tuple[tuple[str, str], ...]


def share(
    looks: Sequence[Look], answers: Answers, serving: Manifest, wanted: InputSpec
) -> SharedLooks:
    """Return looks and what was said of them, cropped for another network."""
    classes = {spec.name: spec.classes for spec in serving.tasks}
    crops, said = [], []
    for row, look in enumerate(looks):
        crop = crop_zone(look.frame.image, look.zone.shape, wanted.size, wanted.margin)
        crops.append(preprocess(crop, wanted.preprocess))
        task = look.zone.task
        index = int(answers.predictions[task].classes[row])
        said.append((task, UNKNOWN if index == UNKNOWN_INDEX else classes[task][index]))
    return SharedLooks(np.stack(crops), tuple(said))


class Shadow:
    """Counts on how many looks a network in trial says what the serving one said.

    Args:
        trial: The new network, its golden vectors passed.
        wanted: Looks to compare.
        seconds: How long to wait for them.
    """

    def __init__(self, trial: Trial, wanted: int, seconds: float) -> None:
        self._trial = trial
        self._wanted = wanted
        self._until_s = time.monotonic() + seconds
        self.decisions = 0
        self._same = 0

    @property
    def agreement(self) -> float | None:
        """Share of the looks on which both said the same; None = no looks yet."""
        return self._same / self.decisions if self.decisions else None

    @property
    def progress(self) -> float:
        """Share of the wanted looks that were compared, 0 to 1."""
        return min(self.decisions / self._wanted, 1.0) if self._wanted else 1.0

    def watch(self, next_looks: Callable[[float], SharedLooks | None]) -> None:
        """Compare until there are enough looks, or the time is over.

        Args:
            next_looks: Waits at most so many seconds for looks.

        Raises:
            UpdateError: The new network fails.
        """
        while self.decisions < self._wanted and (left_s := self._until_s - time.monotonic()) > 0:
            looks = next_looks(left_s)
            if looks is not None:
                self._compare(looks)

    def check(self, least_agreement: float) -> None:
        """Refuse a network that says something else too often.

        Raises:
            UpdateError: It does.
        """
        agreement = self.agreement
        if agreement is not None and agreement < least_agreement:
            raise UpdateError(
                f"says what the serving network says on {agreement:.1%} of {self.decisions} "
                f"looks, {least_agreement:.1%} required (updates.least_agreement)"
            )

    def _compare(self, looks: SharedLooks) -> None:
        answers = self._trial.judge(looks.crops)
        for row, (task, said) in enumerate(looks.said):
            self.decisions += 1
            self._same += answers[task][row] == said
