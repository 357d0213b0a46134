"""Zones that are proposed: outlines in a picture that the starter takes for doors and windows.

A network that tells doors from windows and from other things of a house says `door` of many a part
of a wall too. So an outline counts as well: how much of each side has an edge, and how large it is.
What weighs how much was fitted on pictures with known zones (`python -m benchmarks.zone_proposals
--fit`); where nothing comes out likely enough, nothing is proposed.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edge_runtime.setup.draft import DraftZone, free_name
from edge_runtime.setup.outlines import Outlines, find_outlines, overlap
from transom.bundle import Bundle, read_bundle
from transom.crop import Image, crop_zone
from transom.geometry import Zone
from transom.messages import DeviceClass
from transom.starter import STARTER, bundle_path, starter_keys

if TYPE_CHECKING:
    from edge_runtime.classifier import Classifier

KINDS: tuple[DeviceClass, ...] = ("door", "window")
"""Classes of the task `kind` that are a zone's."""
OUTLINES = 180
"""Rectangles that the network looks at."""
LIKELY = 0.15
"""What a proposal must be at least, as the fit says it: the share that is right at that score."""

_MOST = 4
_MOST_COMMON = 0.35
"""Of the smaller of two proposals, that lies in the other."""
_WEIGHTS = (0.434, -9.214, 1.784, 2.386, 1.489, 2.51, 1.348)
"""Of log odds of the kind, distance from training, left, top, right, bottom side, log area."""
_BIAS = -6.005

Floats = npt.NDArray[np.float64]


class Proposer:
    """Proposes zones with a bundle's network, which is loaded when it is first asked.

    Args:
        bundle: Has a task `kind` with classes `door` and `window`; None = the starter.
    """

    def __init__(self, bundle: Bundle | None = None) -> None:
        self._bundle = bundle
        self._network: Classifier | None = None

    def propose(self, image: Image) -> list[DraftZone]:
        """Return the zones of a picture, (H, W, 3) uint8 BGR, the likeliest first.

        Raises:
            BundleError: This installation has no starter.
            ClassifierError: Its network does not run here.
        """
        outlines, kinds, features = self.look(image)
        sureness = 1.0 / (1.0 + np.exp(-(features @ np.array(_WEIGHTS) + _BIAS)))
        names: set[str] = set()
        found = []
        for index in chosen(outlines, sureness):
            kind = KINDS[kinds[index]]
            names.add(name := free_name(kind, names))
            zone = Zone.rectangle(*outlines.boxes[index].tolist())
            found.append(DraftZone(name, kind, zone, round(float(sureness[index]), 4)))
        return found

    def look(self, image: Image) -> tuple[Outlines, npt.NDArray[np.intp], Floats]:
        """Return outlines of a picture, the kind of each as an index, and what speaks for it.

        Returns:
            N outlines; (N,); (N, 7) in the order of the weights.
        """
        network = self._loaded()
        size, margin = network.manifest.input.size, network.manifest.input.margin
        outlines = find_outlines(image, OUTLINES)
        crops = [
            crop_zone(image, Zone.rectangle(*box), size, margin) for box in outlines.boxes.tolist()
        ]
        shape = (len(crops), size, size, 3)
        answer = network.classify(np.array(crops, np.uint8).reshape(shape)).predictions["kind"]
        spec = next(spec for spec in network.manifest.tasks if spec.name == "kind")
        said = answer.probabilities[:, [spec.classes.index(kind) for kind in KINDS]]
        kinds = said.argmax(axis=1)
        p = np.clip(said.max(axis=1).astype(np.float64), 1e-4, 1.0 - 1e-4)
        distance = np.zeros(len(p)) if answer.distance is None else answer.distance
        area = (outlines.boxes[:, 2:] - outlines.boxes[:, :2]).prod(axis=1)
        columns: list[Any] = [np.log(p / (1.0 - p)), distance, *outlines.support.T, np.log(area)]
        return outlines, kinds, np.stack(columns, axis=1)

    def _loaded(self) -> "Classifier":
        if self._network is None:
            from edge_runtime.classifier import Classifier  # imports onnxruntime

            bundle = self._bundle or read_bundle(bundle_path(STARTER), starter_keys())
            self._network = Classifier(bundle)
        return self._network


def chosen(outlines: Outlines, sureness: Floats, likely: float = LIKELY) -> list[int]:
    """Return which outlines are proposed: the likeliest of those that lie over each other."""
    found: list[int] = []
    for index in np.argsort(-sureness, kind="stable").tolist():
        if sureness[index] < likely or len(found) == _MOST:
            break
        box = outlines.boxes[index]
        if not found or overlap(box, outlines.boxes[found])[1].max() <= _MOST_COMMON:
            found.append(index)
    return found
