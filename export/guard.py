"""The guard of a bundle: which held-out pictures go into it (see `transom.guard`)."""

import numpy as np
import numpy.typing as npt

from export.quantize import calibration_indices
from train.predictor import Predictor, Said
from transom.crop import Image
from transom.guard import Guard

ROWS = 32
"""Pictures of a guard: 8 KB with an embedding of 128 numbers."""


def make_guard(
    predictor: Predictor,
    crops: Image,
    targets: npt.NDArray[np.int64],
    groups: tuple[str, ...],
) -> Guard:
    """Choose pictures of all labels and groups, and note what the network makes of them.

    Args:
        predictor: The network that ships, calibrated.
        crops: (N, S, S, 3) uint8 BGR that the training did not see.
        targets: (N, T) class indices in the order of its tasks, -1 = not labelled.
        groups: (N,) names of what must not be split.
    """
    some = calibration_indices(targets, groups, ROWS)
    said: Said = predictor(np.array(crops[some]))
    return Guard(
        embedding=said.embedding,
        logits=said.logits,
        targets={
            name: np.ascontiguousarray(targets[some, column])
            for column, name in enumerate(predictor.tasks.names)
        },
    )
