"""One way to ask a network, whether it is a run in torch or a bundle in onnxruntime."""

from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from transom.bundle import InputSpec, Manifest, TaskSpec
from transom.errors import BundleError
from transom.session import session_entries
from transom.tasks import TaskSet

if TYPE_CHECKING:
    from train.run import Run

Crops = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

_IMAGE = "image"
_EMBEDDING = "embedding"


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

    def __call__(self, crops: Crops) -> tuple[dict[str, Floats], Floats]:
        """Classify and embed.

        Args:
            crops: (N, S, S, 3) uint8 BGR.

        Returns:
            By task, calibrated logits (N, C) float32; and the embedding (N, D) float32.
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

    def __call__(self, crops: Crops) -> tuple[dict[str, Floats], Floats]:
        """Classify and embed; see `Predictor`."""
        from train.network import predict_logits  # torch is seconds: not for a bundle

        logits, embedding = predict_logits(self._network, crops)
        calibrated = {
            name: np.asarray(values / self._temperatures.get(name, 1.0), np.float32)
            for name, values in logits.items()
        }
        return calibrated, embedding


class OnnxPredictor:
    """A bundle's network, run as the device runs it; temperatures are inside the graph.

    Args:
        model: The ONNX file.
        manifest: What the bundle says of it.
        threads: Threads of one run of the network; 0 = one a core.

    Raises:
        BundleError: The file is no network that onnxruntime runs, or its inputs and outputs are
            not those that the manifest promises.
    """

    def __init__(self, model: bytes, manifest: Manifest, *, threads: int = 0) -> None:
        import onnxruntime  # 0.1 s: not for who only wants the protocol

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads
        for key, value in session_entries().items():
            options.add_session_config_entry(key, value)
        self.name = manifest.name
        self.precision = manifest.precision
        self.tasks = manifest.task_set()
        self.specs = manifest.tasks
        self.input = manifest.input
        try:
            self._session = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
        except _session_errors() as error:
            raise BundleError(
                f"{self.name}: onnxruntime cannot load the network: {error}"
            ) from error
        self._outputs = [*self.tasks.names, _EMBEDDING]
        self._check_names()

    def __call__(self, crops: Crops) -> tuple[dict[str, Floats], Floats]:
        """Classify and embed; see `Predictor`."""
        *logits, embedding = self._session.run(self._outputs, {_IMAGE: np.ascontiguousarray(crops)})
        return dict(zip(self.tasks.names, logits, strict=True)), embedding

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
