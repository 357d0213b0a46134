"""The crops that the training did not see, and what float32 says of them: what all is judged by."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from export.graph import EMBEDDING
from export.parity import Limits, check_float
from export.quantize import calibration_indices
from train.corpus import Corpus
from train.evaluate import evaluate
from train.network import Network, predict_logits
from train.predictor import OnnxPredictor, Said
from train.run import Run
from transom.crop import Image
from transom.goldens import Logits
from transom.manifest import Manifest

_BATCH = 32
_TORCH_CROPS = 32
_GOLDEN_CANDIDATES = 64

Targets = npt.NDArray[np.int64]


@dataclass(frozen=True)
class HeldOut:
    """Rows of val and test.

    Attributes:
        corpus: N rows, val and test.
        targets: (N, T) int64 in the order of the run's tasks and classes, -1 = not labelled.
        float32: What the float32 graph says of them: no temperature yet.
        difference: Largest difference between torch and ONNX float32.
    """

    corpus: Corpus
    targets: Targets
    float32: Said
    difference: float

    def calibrated(self, run: Run) -> Logits:
        """Return float32's logits: temperatures change no class, but of which crops it is sure."""
        return {
            task: np.asarray(values / run.temperatures.get(task, 1.0), np.float32)
            for task, values in self.float32.logits.items()
        }

    def golden_candidates(self) -> tuple[Image, Targets]:
        """Return crops of all labels, those of test first, and their targets."""
        parts = []
        for split in ("test", "val"):
            rows = np.flatnonzero(self.corpus.splits == split)
            no_groups = [""] * len(rows)
            some = calibration_indices(self.targets[rows], no_groups, _GOLDEN_CANDIDATES)
            parts.append(rows[some])
        chosen = np.concatenate(parts)
        return np.array(self.corpus.crops[chosen]), self.targets[chosen]


def hold_out(
    network: Network, graph: bytes, draft: Manifest, corpus: Corpus, limits: Limits
) -> HeldOut:
    """Run the float32 graph over val and test, and check it against torch on some of them.

    Args:
        network: What was exported.
        graph: The float32 graph of it.
        draft: Its inputs and tasks.
        corpus: Rows of all splits.
        limits: How far torch and ONNX may be apart.

    Raises:
        ExportError: They are further apart.
    """
    rows = corpus.select(np.flatnonzero(corpus.splits != "train"))
    predictor = OnnxPredictor(graph, draft)
    judged = evaluate(predictor, rows)
    targets = np.stack([task.targets for task in judged.tasks.values()], axis=1)
    said = said_of(predictor, rows.crops)
    some = calibration_indices(targets, rows.groups, _TORCH_CROPS)
    torch_logits, torch_embedding = predict_logits(network, np.array(rows.crops[some]))
    difference = check_float(
        {**torch_logits, EMBEDDING: torch_embedding},
        {
            **{task: values[some] for task, values in said.logits.items()},
            EMBEDDING: said.embedding[some],
        },
        limits,
    )
    return HeldOut(rows, targets, said, difference)


def said_of(predictor: OnnxPredictor, crops: Image) -> Said:
    """Return what a network says of (N, S, S, 3) uint8 crops, in batches that fit into memory."""
    parts = [
        predictor(np.array(crops[start : start + _BATCH])) for start in range(0, len(crops), _BATCH)
    ]
    names = predictor.tasks.names
    logits = {name: np.concatenate([part.logits[name] for part in parts]) for name in names}
    return Said(logits, np.concatenate([part.embedding for part in parts]))
