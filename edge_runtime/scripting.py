"""What scripts may use of the device's half: a network asked about frames, and the state of a zone.

`import transom` gives these names; docs/api.md has what is promised of them. They are the daemon's
own crop, network, thresholds and filter, without its cameras, its motion gate and its broker.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edge_runtime.classifier import Classifier as Network
from edge_runtime.decision import StateFilter
from edge_runtime.motion import Motion
from transom.bundle import Bundle
from transom.config import DecisionConfig
from transom.crop import crop_zone
from transom.errors import ClassifierError
from transom.geometry import Zone
from transom.manifest import Manifest, TaskSpec
from transom.messages import Reason
from transom.prediction import UNKNOWN_INDEX, Prediction
from transom.preprocess import preprocess
from transom.session import Precision
from transom.tasks import UNKNOWN

Floats = npt.NDArray[np.float32]
Frame = npt.NDArray[Any]
"""(H, W, 3) uint8 BGR; by its type OpenCV does not promise as much of what it reads."""

_ROUNDING = 0.01
"""How far from 1 the sum of probabilities may be that somebody has written down."""

Doubt = Literal["unsure", "unlike"]
"""Why a picture has no class: none is probable enough, or it is unlike anything trained on."""


@dataclass(frozen=True)
class Answer:
    """What a network says of a zone in one frame, of one task.

    Attributes:
        classes: The task's, C of them.
        probabilities: (C,) float32, calibrated, summing to 1.
        name: The most probable class where it is believed, else `unknown`.
        reason: Why it is unknown; None where it is not.
    """

    classes: tuple[str, ...]
    probabilities: Floats
    name: str
    reason: Doubt | None


@dataclass(frozen=True)
class State:
    """What the state of a zone is after a look.

    Attributes:
        name: A class of the task, or `unknown`.
        confidence: The filter's probability of it, 0 to 1; 0 when unknown.
        previous: The name before this look.
        reason: Why it is unknown; None where it is not.
    """

    name: str
    confidence: float
    previous: str
    reason: Reason | None

    @property
    def has_changed(self) -> bool:
        """Whether it is another than before this look: what the daemon makes an event of."""
        return self.name != self.previous


class Classifier:
    """Says what zones of a frame show, each for itself and each frame for itself.

    Args:
        bundle: From `transom.load_bundle`.
        threads: Threads of the network, at least 1.
        precision: Of its arithmetic, `int8` or `float32`; None = the bundle's own.

    Raises:
        ClassifierError: The network does not run here, or not in this precision.
    """

    def __init__(
        self, bundle: Bundle, *, threads: int = 1, precision: Precision | None = None
    ) -> None:
        if threads < 1:
            raise ValueError(f"threads must be at least 1, got {threads}")
        self._manifest = bundle.manifest
        self._network = Network(bundle, threads=threads, precision=precision)

    def classify(self, frame: Frame, *zones: Zone) -> list[dict[str, Answer]]:
        """Return what each zone shows, by task; all zones go through the network at once.

        Args:
            frame: (H, W, 3) uint8 BGR, as OpenCV delivers.
            zones: Where to look; none = the whole frame.

        Raises:
            TypeError: `frame` is no array, or a zone no `Zone`.
            ValueError: `frame` is not as described.
            ClassifierError: The network failed.
        """
        for zone in zones:
            if not isinstance(zone, Zone):
                raise TypeError(
                    f"a zone must be a transom.Zone, got {type(zone).__name__}; "
                    "Zone.rectangle(left, top, right, bottom) makes one"
                )
        fed = self._manifest.input
        crops = [
            preprocess(crop_zone(frame, zone, fed.size, fed.margin), fed.preprocess)
            for zone in zones or (Zone.whole(),)
        ]
        said = self._network.classify(np.stack(crops)).predictions
        return [
            {spec.name: _answer(spec, said[spec.name], row) for spec in self._manifest.tasks}
            for row in range(len(crops))
        ]


class Decision:
    """The state of one zone over time, by the filter and the budget of the daemon.

    Args:
        bundle: Whose answers it is given.
        task: Of which the state is a class.
        config: Budget, dwell and patience; None = the defaults of a configuration.

    Raises:
        ClassifierError: The bundle has no such task.

    References:
        `edge_runtime.decision` derives the filter.
    """

    def __init__(
        self, bundle: Bundle, task: str = "state", config: DecisionConfig | None = None
    ) -> None:
        self._spec = _spec_of(bundle.manifest, task)
        self._filter = StateFilter(self._spec, config or DecisionConfig())
        self._last_s: float | None = None

    def see(self, answer: Answer, now_s: float) -> State:
        """Take an answer of a `Classifier` into account; see `step`.

        Raises:
            ValueError: It is one of another task, or the time goes back or is no number.
        """
        if answer.classes != self._spec.classes:
            raise ValueError(
                f"answer must be of task {self._spec.name!r} ({', '.join(self._spec.classes)}), "
                f"got one of {', '.join(answer.classes)}"
            )
        if answer.reason == "unlike":  # its probabilities mean nothing
            return self.step(None, now_s, reason="unlike")
        return self.step(answer.probabilities, now_s)

    def step(
        self,
        probabilities: npt.ArrayLike | None,
        now_s: float,
        *,
        reason: Reason | None = None,
        motion: Motion | None = None,
    ) -> State:
        """Take one look at the zone into account.

        Args:
            probabilities: (C,), calibrated, summing to 1; None = there is no picture that says
                anything.
            now_s: Monotonic seconds of the frame, from any start; never before the last step's.
            reason: Why there is no such picture; ignored where there is one.
            motion: Whether the zone moved since the last step: `none`, `usual` (as it does all
                day), `unusual`; None = not known, which makes changes take longer to be believed.

        Raises:
            ValueError: The probabilities are not such, or the time goes back or is no number.
        """
        if not math.isfinite(now_s):
            raise ValueError(
                f"now_s must be a number of seconds, got {now_s:g}; use time.monotonic() or a "
                "clip's time"
            )
        if self._last_s is not None and now_s < self._last_s:
            raise ValueError(
                f"now_s must not be before the last step's {self._last_s:g}, got {now_s:g}; use "
                "time.monotonic() or a clip's time"
            )
        if probabilities is not None:
            probabilities = self._checked(probabilities)
        self._last_s = now_s
        decided = self._filter.update(probabilities, now_s, reason, motion=motion)
        return State(decided.state, decided.confidence, decided.previous, decided.reason)

    def _checked(self, probabilities: npt.ArrayLike) -> Floats:
        found = np.asarray(probabilities, np.float32)
        is_share = bool((found >= 0.0).all()) and abs(found.sum() - 1.0) < _ROUNDING
        if found.shape != (len(self._spec.classes),) or not is_share:
            raise ValueError(
                f"probabilities must be {len(self._spec.classes)} numbers from 0 on that sum to 1 "
                f"({', '.join(self._spec.classes)}), got {found.shape} that sum to {found.sum():g}"
            )
        return found


def _spec_of(manifest: Manifest, task: str) -> TaskSpec:
    for spec in manifest.tasks:
        if spec.name == task:
            return spec
    raise ClassifierError(
        f"{manifest.name} {manifest.sequence}: has the tasks "
        f"{', '.join(spec.name for spec in manifest.tasks)}, not {task!r}"
    )


def _answer(spec: TaskSpec, said: Prediction, row: int) -> Answer:
    index = int(said.classes[row])
    doubt: Doubt | None = None
    if index == UNKNOWN_INDEX:
        doubt = "unlike" if said.unlike[row] else "unsure"
    name = UNKNOWN if doubt is not None else spec.classes[index]
    return Answer(spec.classes, said.probabilities[row], name, doubt)
