"""Make `import torchvision` work where its compiled operators do not fit this PyTorch.

torchvision describes two of its compiled operators, non-maximum suppression in float and in
integers, while it is imported, and fails where they are not there: where its wheel was built for
CUDA and PyTorch for the CPU. Transom takes architectures from it, which are PyTorch alone, so
these operators are then declared without an implementation: calling one still fails, and says so.
"""

import importlib.util
from pathlib import Path

import torch

_OPERATORS = ("nms", "qnms")
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def prepare_torchvision() -> None:
    """Declare what torchvision would fail over, before its first import.

    The real operators are loaded first where they can be, so none is ever overwritten; and
    torchvision, which loads the same file again, then finds it loaded.

    Raises:
        ModuleNotFoundError: torchvision is not installed.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None:
        raise ModuleNotFoundError("No module named 'torchvision'", name="torchvision")
    for folder in spec.submodule_search_locations or []:
        for library in sorted(Path(folder).glob("_C*.so")):
            _load(library)
    for name in _OPERATORS:
        if not hasattr(torch.ops.torchvision, name):
            torch.library.define(f"torchvision::{name}", _SCHEMA)


def _load(library: Path) -> bool:
    try:
        torch.ops.load_library(library)  # type: ignore[no-untyped-call]
    except OSError:  # it needs libraries of CUDA, or another PyTorch
        return False
    return True
