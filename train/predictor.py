"""One way to ask a network, whether it is a run in torch or a bundle in onnxruntime."""

from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from train.unlike import read_distance
from transom.errors import BundleError
from transom.manifest import DISTANCE, EMBEDDING, InputSpec, Manifest, TaskSpec
from transom.session import Precision, open_session
from transom.tasks import TaskSet

if TYPE_CHECKING:
    from train.run import Run

Crops = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

_IMAGE = "image"


class Said(NamedTuple):
    """What a network says of N crops.

    Attributes:
        logits: By task, calibrated, (N, C) float32.
        embedding: (N, D) float32.
        distance: (N,) float32, how far each lies from training pictures; None where the network
            does not know.
    """

    logits: dict[str, Floats]
    embedding: Floats
    distance: Floats | None = None


class Predictor(Protocol):
    """A network with what calibration found."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def precision(self) -> str:
        """Of its arithmetic, `float32` or `int8`."""
        ...

    @property
    def tasks(self) -> TaskSet:
        """Its heads."""
        ...

    @property
    def specs(self) -> tuple[TaskSpec, ...]:
        """Its heads with thresholds and the rule for the unknown, in the same order."""
        ...

    @property
    def input(self) -> InputSpec:
        """What it is fed."""
        ...

    def __call__(self, crops: Crops) -> Said:
        """Classify and embed.

        Args:
            crops: (N, S, S, 3) uint8 BGR.
        """
        ...


class TorchPredictor:
    """A run's network in float32; its logits are divided by the run's temperatures."""

    precision = "float32"

    def __init__(self, run: "Run") -> None:
        self.name = run.folder.name
        self.tasks = run.tasks
        self.specs = run.specs
        self.input = run.input
        self._temperatures = dict(run.temperatures)
        self._network = run.network()
        self._distance = read_distance(run.folder)

    def __call__(self, crops: Crops) -> Said:
        """Classify and embed; see `Predictor`."""
        from train.network import predict_logits  # torch is seconds: not for a bundle

        logits, embedding = predict_logits(self._network, crops)
        calibrated = {
            name: np.asarray(values / self._temperatures.get(name, 1.0), np.float32)
            for name, values in logits.items()
        }
        distance = None if self._distance is None else self._distance(embedding)
        return Said(calibrated, embedding, distance)


class OnnxPredictor:
    """A bundle's network, run as the device runs it; temperatures are inside the graph.

    Args:
        model: The ONNX file.
        manifest: What the bundle says of it.
        threads: Threads of one run of the network; 0 = one a core.
        precision: In which it is run; None = the bundle's own.

    Raises:
        BundleError: The file is no network that onnxruntime runs, or its inputs and outputs are
            not those that the manifest promises.
    """

    def __init__(
        self,
        model: bytes,
        manifest: Manifest,
        *,
        threads: int = 0,
        precision: Precision | None = None,
    ) -> None:
        import onnxruntime  # 0.1 s: not for who only wants the protocol

        self.name = manifest.name
        self.precision = precision or manifest.precision
        without_rounding = self.precision != manifest.precision
        self.tasks = manifest.task_set()
        self.specs = manifest.tasks
        self.input = manifest.input
        try:
            self._session = open_session(
                onnxruntime, model, threads=threads, without_rounding=without_rounding
            )
        except _session_errors() as error:
            raise BundleError(
                f"{self.name}: onnxruntime cannot load the network: {error}"
            ) from error
        self._outputs = list(manifest.widths())
        self._check_names()

    def __call__(self, crops: Crops) -> Said:
        """Classify and embed; see `Predictor`."""
        values = self._session.run(self._outputs, {_IMAGE: np.ascontiguousarray(crops)})
        said = dict(zip(self._outputs, values, strict=True))
        distance = said.pop(DISTANCE)[:, 0] if DISTANCE in said else None
        embedding = said.pop(EMBEDDING)
        return Said(said, embedding, distance)

    def _check_names(self) -> None:
        inputs = [item.name for item in self._session.get_inputs()]
        outputs = [item.name for item in self._session.get_outputs()]
        if inputs != [_IMAGE] or not set(self._outputs) <= set(outputs):
            raise BundleError(
                f"{self.name}: the network must take {_IMAGE} and give "
                f"{', '.join(self._outputs)}; it takes {', '.join(inputs)} and gives "
                f"{', '.join(outputs)}; export it again"
            )


def _session_errors() -> tuple[type[Exception], ...]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return (
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.NotImplemented,
        state.RuntimeException,
    )
