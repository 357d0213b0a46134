"""How far the members of an ensemble say the same, and what the ensemble has from it."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from train.blend import Held, Matrix
from train.corpus import MISSING
from train.members import TaskAgreement
from train.metrics import group_indices, mean_interval


def agreement(held: Held, logits: Matrix, names: Sequence[str]) -> TaskAgreement | None:
    """Return how far members say the same; None where no row is labelled.

    Args:
        held: All held-out rows, labelled or not.
        logits: (N, C) float64, what the ensemble says of them; of a row that it was fitted on,
            what a fit without the row's group says (see `train.blend.left_out`).
        names: Of the K members.
    """
    counted = held.targets != MISSING
    if not counted.any():
        return None
    guesses = held.logits.argmax(2)
    truth = held.targets[counted]
    right = guesses[counted] == truth[:, None]
    ensemble_right = logits.argmax(1)[counted] == truth
    same = (guesses[counted] == guesses[counted][:, :1]).all(1)
    gains = ensemble_right - right.mean(1)
    return TaskAgreement(
        n=int(counted.sum()),
        accuracy={
            **{name: float(right[:, place].mean()) for place, name in enumerate(names)},
            "ensemble": float(ensemble_right.mean()),
        },
        agreement=tuple(
            tuple(float((guesses[:, i] == guesses[:, j]).mean()) for j in range(len(names)))
            for i in range(len(names))
        ),
        unanimous=float(same.mean()),
        accuracy_unanimous=_share(right[same, 0]),
        accuracy_divided=_share(ensemble_right[~same]),
        one_right=float(right.any(1).mean()),
        gain=float(gains.mean()),
        gain_interval=mean_interval(gains, group_indices(held.groups[counted].tolist())),
    )


def disputed(held: Held, logits: Matrix, count: int) -> list[int]:
    """Return labelled rows on which the members differ most, at most one of each group.

    First those that the ensemble has wrong; among them those on which its members' probabilities
    lie farthest apart.
    """
    odds = np.exp(held.logits - held.logits.max(2, keepdims=True))
    spread = (odds / odds.sum(2, keepdims=True)).std(1).sum(1)
    differ = (held.logits.argmax(2) != held.logits[:, :1].argmax(2)).any(1)
    wrong = logits.argmax(1) != held.targets
    chosen: dict[str, int] = {}
    for row in sorted(np.flatnonzero(differ & (held.targets != MISSING)).tolist(),
                      key=lambda row: (not wrong[row], -spread[row])):  # fmt: skip
        chosen.setdefault(held.groups[row], row)
    return list(chosen.values())[:count]


def _share(right: npt.NDArray[np.bool_]) -> float | None:
    return float(right.mean()) if len(right) else None
