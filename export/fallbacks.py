"""What is tried, in order, until INT8 is the same network as float32 within the limits.

Each costs more than the one before: more calibration crops cost minutes; layers left in float cost
the device time; equalisation changes the float32 network's own weights (not its answers); training
on with rounding in the loop changes its answers too, towards what they were.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import onnx

from export.activations import added_errors
from export.equalise import equalise
from export.qat import train_on
from export.quantize import Ranges, quantize
from export.recipe import ExportRecipe, Fallback
from transom.crop import Image
from transom.errors import ExportError
from transom.tasks import TaskSet

_ERROR_CROPS = 16

Answers = Mapping[str, npt.NDArray[np.float32]]
Checked = TypeVar("Checked")


class Samples(Protocol):
    """The training crops: of each class and group as evenly as they allow."""

    def __call__(self, count: int) -> Image:
        """Return at most so many, (N, S, S, 3) uint8 BGR."""
        ...


@dataclass(frozen=True)
class Attempt:
    """An INT8 network that may pass.

    Attributes:
        model: In QDQ form.
        fallback: How it was made, or None for the plain way.
        what: The same in words.
        excluded: How many convolutions stay in float on purpose.
    """

    model: bytes
    fallback: Fallback | None
    what: str
    excluded: int = 0


@dataclass(frozen=True)
class Quantizer:
    """What all ways to INT8 begin with.

    Attributes:
        graph: Float32, of `export.graph.export_graph`.
        tasks: Its heads.
        samples: Training crops.
        answer: Gives the float32 outputs (tasks and embedding) for crops.
        recipe: How.
    """

    graph: bytes
    tasks: TaskSet
    samples: Samples
    answer: Callable[[Image], Answers]
    recipe: ExportRecipe
    _ranges: Ranges = field(default_factory=Ranges, init=False)

    def attempts(self) -> Iterator[Attempt]:
        """Yield the plain way and then every fallback's, each made when it is asked for.

        Raises:
            ExportError: A fallback cannot be tried on this network.
        """
        crops = self.samples(self.recipe.quantization.images)
        plain = self._quantize(self.graph, crops)
        yield Attempt(plain, None, f"{len(crops)} calibration crops")
        for name in self.recipe.fallbacks:
            yield from _WAYS[name](self)

    def _quantize(self, graph: bytes, crops: Image, exclude: Sequence[str] = ()) -> bytes:
        settings, ranges = self.recipe.quantization, self._ranges
        return quantize(graph, self.tasks, crops, settings, exclude=exclude, ranges=ranges)

    def _calibrate_more(self) -> Iterator[Attempt]:
        crops = self.samples(self.recipe.more_images)
        if len(crops) > self.recipe.quantization.images:
            yield Attempt(
                self._quantize(self.graph, crops),
                "more_calibration",
                f"{len(crops)} calibration crops",
            )

    def _exclude_layers(self) -> Iterator[Attempt]:
        """Leave the tensors that lose most in float, one more at a time."""
        crops = self._crops()
        errors = added_errors(self.graph, self._quantize(self.graph, crops), crops[:_ERROR_CROPS])
        excluded: list[str] = []
        for worst in list(errors)[: self.recipe.most_excluded]:
            around = _around(self.graph, worst)
            excluded += [name for name in around if name not in excluded]
            convolutions = [name for name in excluded if name.startswith("Conv")]
            yield Attempt(
                self._quantize(self.graph, crops, excluded),
                "excluded_layers",
                f"left in float: {', '.join(excluded)}",
                excluded=len(convolutions),
            )

    def _equalise(self) -> Iterator[Attempt]:
        crops = self._crops()
        yield Attempt(
            self._quantize(equalise(self.graph, crops), crops), "equalisation", "channels equalised"
        )

    def _train_on(self) -> Iterator[Attempt]:
        crops, settings = self._crops(), self.recipe.qat
        is_equalised = "equalisation" in self.recipe.fallbacks
        graph = equalise(self.graph, crops) if is_equalised else self.graph
        model = self._quantize(graph, crops)
        pictures = self.samples(settings.images)
        yield Attempt(
            train_on(model, self.tasks, pictures, self.answer(pictures), settings),
            "qat",
            f"trained on for {settings.epochs} epochs of {len(pictures)} crops",
        )

    def _crops(self) -> Image:
        return self.samples(max(self.recipe.more_images, self.recipe.quantization.images))


_WAYS: Mapping[Fallback, Callable[[Quantizer], Iterator[Attempt]]] = {
    "more_calibration": Quantizer._calibrate_more,
    "excluded_layers": Quantizer._exclude_layers,
    "equalisation": Quantizer._equalise,
    "qat": Quantizer._train_on,
}


def first_that_passes(
    quantizer: Quantizer, check: Callable[[Attempt], Checked], tell: Callable[[str], None]
) -> Checked:
    """Return what `check` returns for the first attempt that passes.

    Args:
        quantizer: Makes the attempts.
        check: Raises ExportError where one does not pass.
        tell: Is told in a sentence of each that does not, and of a fallback that does.

    Raises:
        ExportError: None does; the message says where each fails.
    """
    failures = []
    for attempt in quantizer.attempts():
        way = "INT8" if attempt.fallback is None else f"fallback {attempt.fallback}"
        try:
            checked = check(attempt)
        except ExportError as error:
            reason = str(error).removeprefix("export stopped: ")
            failures.append(f"{way} ({attempt.what}): {reason}")
            tell(f"{way} does not pass ({attempt.what}): {reason}")
            continue
        if attempt.fallback is not None:
            tell(f"{way} passes: {attempt.what}")
        return checked
    raise ExportError(
        "export stopped: " + "; then ".join(failures) + "; train longer or on more pictures (a "
        "network that is unsure flips easily), export with --precision float32, or accept less "
        "with --set limits.agreement=SHARE"
    )


def _around(graph: bytes, name: str) -> list[str]:
    """Return the node and those that read what it gives, past activations that are part of it.

    A tensor stays in float only where neither who makes it nor who reads it asks for integers.
    """
    nodes = onnx.load_from_string(graph).graph.node
    maker = next((node for node in nodes if node.name == name), None)
    if maker is None:
        return []
    found, tensors = [name], list(maker.output)
    while tensors:
        tensor = tensors.pop()
        for node in nodes:
            if tensor in node.input:
                found.append(node.name)
                if node.op_type in ("Clip", "Relu", "Reshape", "Flatten", "GlobalAveragePool"):
                    tensors += node.output
    return found
