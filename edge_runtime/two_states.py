"""Two states instead of three: for zones of which it is enough to know that they are not closed."""

import numpy as np
import numpy.typing as npt

from transom.config import ZoneConfig
from transom.manifest import Manifest, TaskSpec
from transom.tasks import AJAR, OPEN

Floats = npt.NDArray[np.float32]


def told_spec(manifest: Manifest, zone: ZoneConfig) -> TaskSpec:
    """Return the task whose classes a zone tells, `ajar` taken into `open` where it wants that.

    The pair is believed from the higher of its two thresholds on: neither was more often wrong
    above its own.

    Raises:
        ValueError: The bundle has no such task, or the task lacks a class that is to be merged.
    """
    spec = next((spec for spec in manifest.tasks if spec.name == zone.task), None)
    if spec is None:
        raise ValueError(
            f"zone {zone.name}: task {zone.task!r} is not in bundle {manifest.name}, which has "
            f"{', '.join(spec.name for spec in manifest.tasks)}"
        )
    if not zone.ajar_is_open:
        return spec
    if not {AJAR, OPEN} < set(spec.classes):
        raise ValueError(
            f"zone {zone.name}: ajar_is_open needs a task with {AJAR}, {OPEN} and one more class, "
            f"{zone.task!r} has {', '.join(spec.classes)}"
        )
    thresholds = dict(zip(spec.classes, spec.thresholds, strict=True))
    thresholds[OPEN] = max(thresholds[OPEN], thresholds.pop(AJAR))
    return TaskSpec(
        name=spec.name,
        classes=tuple(thresholds),
        ordinal=spec.ordinal,
        thresholds=tuple(thresholds.values()),
        unknown=spec.unknown,
    )


def told_state(state: str, told: tuple[str, ...]) -> str | None:
    """Return what a zone calls a state that was noted of it; None where it has no such state.

    Args:
        state: As it was told before the configuration or the bundle was changed.
        told: The states that the zone tells.

    Examples:
        >>> told_state("ajar", ("closed", "open"))
        'open'
    """
    if state == AJAR and AJAR not in told:
        state = OPEN
    return state if state in told else None


def told_probabilities(
    probabilities: Floats, classes: tuple[str, ...], told: tuple[str, ...]
) -> Floats:
    """Return the probabilities of the classes that a zone tells.

    Args:
        probabilities: (C,) float32, of the network's classes.
        classes: The network's, C of them.
        told: The zone's: the same ones, or all but `ajar`.

    Examples:
        >>> row = np.array([0.5, 0.25, 0.25], np.float32)
        >>> told_probabilities(row, ("closed", "ajar", "open"), ("closed", "open")).tolist()
        [0.5, 0.5]
    """
    if told == classes:
        return probabilities
    found = dict(zip(classes, probabilities.tolist(), strict=True))
    found[OPEN] += found.pop(AJAR)
    return np.array([found[name] for name in told], np.float32)
