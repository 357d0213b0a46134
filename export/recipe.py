"""The export's recipe: its limits, how INT8 is made, and what is tried where that fails."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from export.parity import Limits
from export.qat import FineTuning
from export.quantize import Quantization
from train.recipe import decode_tree, read_toml

Fallback = Literal["more_calibration", "excluded_layers", "equalisation", "qat"]


class ExportRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that decides an export but the run and its data.

    Attributes:
        limits: What must be reached.
        quantization: How INT8 is made at first.
        fallbacks: What is tried, in this order, where that does not reach the limits; the first
            that does is taken. See `export.fallbacks`.
        more_images: Calibration crops of the first fallback and of those after it.
        most_excluded: How many of the worst tensors may be kept in float.
        qat: How the weights are trained on with rounding in the loop.
    """

    limits: Limits = Limits()
    quantization: Quantization = Quantization()
    fallbacks: tuple[Fallback, ...] = ("more_calibration", "excluded_layers", "equalisation", "qat")
    more_images: Annotated[int, Meta(ge=1, le=16384)] = 1024
    most_excluded: Annotated[int, Meta(ge=1, le=64)] = 3
    qat: FineTuning = FineTuning()


def load_export_recipe(path: Path) -> ExportRecipe:
    """Read an export's recipe; keys that the file does not name have their defaults.

    Raises:
        ConfigurationError: The file cannot be read, a key is unknown, or a value is out of range.
    """
    return decode_tree(read_toml(path), ExportRecipe, str(path))
