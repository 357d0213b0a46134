"""The network of a bundle at work. The only module of the daemon that knows onnxruntime."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as _state

from transom.bundle import Bundle
from transom.crop import Image
from transom.errors import ClassifierError
from transom.golden_check import why_wrong
from transom.goldens import Logits
from transom.manifest import DISTANCE, EMBEDDING
from transom.prediction import Prediction, predict
from transom.session import QUIET, Precision, open_session

Floats = npt.NDArray[np.float32]

RUNTIME = f"onnxruntime {onnxruntime.__version__}"
"""What runs networks here."""

_BATCH = 16
"""Most crops at once: the memory of a network's layers grows with its batch."""
_FAULTS = (
    _state.Fail,
    _state.InvalidArgument,
    _state.InvalidGraph,
    _state.InvalidProtobuf,
    _state.NoSuchFile,
    _state.NotImplemented,
    _state.RuntimeException,
    _state.EPFail,
    RuntimeError,
    ValueError,
)


@dataclass(frozen=True)
class Answers:
    """What the network says of N crops.

    Attributes:
        predictions: By task.
        embedding: (N, D) float32.
    """

    predictions: dict[str, Prediction]
    embedding: Floats


class Classifier:
    """A verified bundle's network, loaded from the bytes that were verified and warmed up.

    Args:
        bundle: From `read_bundle`.
        threads: Threads of the network, at least 1.
        precision: Of its arithmetic; None = the bundle's own.

    Attributes:
        manifest: The bundle's.
        precision: In which the network runs.

    Raises:
        ClassifierError: The network cannot be loaded here, is not what the manifest says, or
            does not run in this precision.
    """

    def __init__(
        self, bundle: Bundle, *, threads: int = 1, precision: Precision | None = None
    ) -> None:
        self.manifest = bundle.manifest
        self.precision = precision or bundle.manifest.precision
        self._goldens = bundle.goldens
        self._name = f"{bundle.manifest.name} {bundle.manifest.sequence}"
        self._widths = self.manifest.widths()
        if self.precision not in bundle.precisions:
            raise ClassifierError(
                f"{self._name}: network runs in {' or '.join(bundle.precisions)}, "
                f"not in {self.precision}; export again"
            )
        onnxruntime.set_default_logger_severity(QUIET)
        without_rounding = self.precision != self.manifest.precision
        try:
            self._session = open_session(
                onnxruntime, bundle.model, threads=threads, without_rounding=without_rounding
            )
        except _FAULTS as error:
            raise ClassifierError(f"{self._name}: network cannot be loaded: {error}") from error
        self._check_interface()
        self._run(self._goldens.crops[:1])

    def classify(self, crops: Image) -> Answers:
        """Return what the network says of crops.

        Args:
            crops: (N, S, S, 3) uint8 BGR, S from the manifest; N may be 0.

        Raises:
            ValueError: `crops` is not as described.
            ClassifierError: The network failed.
        """
        size = self.manifest.input.size
        if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[1:] != (size, size, 3):
            raise ValueError(
                f"crops must be (N, {size}, {size}, 3) uint8, got {crops.shape} {crops.dtype}"
            )
        joined = self._answer(crops)
        distance = joined[DISTANCE][:, 0] if DISTANCE in joined else None
        return Answers(
            {spec.name: predict(joined[spec.name], spec, distance) for spec in self.manifest.tasks},
            joined[EMBEDDING],
        )

    def check_goldens(self) -> None:
        """Compare the network's answers on this machine with those the bundle expects.

        Raises:
            ClassifierError: An answer differs; the message says which and by how much.
        """
        found = self._answer(self._goldens.crops)
        reason = why_wrong(self._goldens, self.manifest.task_set(), found, self.precision)
        if reason is not None:
            raise ClassifierError(
                f"{self._name}: {reason}; this machine does not compute what the exporter did: "
                "update onnxruntime or export again"
            )

    def become(self, other: "Classifier") -> None:
        """Run from now on as another of the same bundle does; from any thread, between batches."""
        self._session, self.precision = other._session, other.precision

    def _answer(self, crops: Image) -> Logits:
        """Return every output for any number of crops."""
        parts = [self._run(crops[i : i + _BATCH]) for i in range(0, len(crops), _BATCH)]
        return {
            name: np.concatenate([part[name] for part in parts])
            if parts
            else np.zeros((0, width), np.float32)
            for name, width in self._widths.items()
        }

    def _run(self, crops: Image) -> Logits:
        try:
            values = self._session.run(list(self._widths), {"image": np.ascontiguousarray(crops)})
        except _FAULTS as error:
            raise ClassifierError(f"{self._name}: network failed: {error}") from error
        answers = dict(zip(self._widths, values, strict=True))
        for name, width in self._widths.items():
            value = answers[name]
            if value.shape != (len(crops), width) or not np.isfinite(value).all():
                raise ClassifierError(
                    f"{self._name}: output {name!r} must be finite ({len(crops)}, {width}), is "
                    f"{value.shape}, finite: {bool(np.isfinite(value).all())}; export again"
                )
        return answers

    def _check_interface(self) -> None:
        size = self.manifest.input.size
        inputs = [_describe(node) for node in self._session.get_inputs()]
        if inputs != [("image", "tensor(uint8)", (None, size, size, 3))]:
            raise ClassifierError(
                f"{self._name}: network must have one input, image uint8 (N, {size}, {size}, 3), "
                f"has {inputs}; export again"
            )
        outputs = sorted(_describe(node) for node in self._session.get_outputs())
        expected = sorted(
            (name, "tensor(float)", (None, width)) for name, width in self._widths.items()
        )
        if outputs != expected:
            raise ClassifierError(
                f"{self._name}: network must have the outputs {expected}, has {outputs}; "
                "export again"
            )


def _describe(node: onnxruntime.NodeArg) -> tuple[str, str, tuple[int | None, ...]]:
    """Return name, type and shape of an input or output; None = any size."""
    shape = tuple(side if isinstance(side, int) else None for side in node.shape)
    return node.name, node.type, shape
