"""Which doors and windows are open: what a script may use of Transom, and what both sides agree on.

The names of `__all__` are the public interface (docs/api.md). Each is imported when it is first
asked for: `import transom` alone loads neither numpy nor a network's runtime.
"""

import importlib
import os
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# Since 1.32 onnxruntime keeps a number of the device in its user's home and sends how it is used
# to its maker. It looks here when it is imported, which is after this.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from edge_runtime.scripting import Answer, Classifier, Decision, State
    from transom.bundle import Bundle
    from transom.config import DecisionConfig
    from transom.errors import TransomError
    from transom.geometry import Zone
    from transom.starter import load_bundle

__all__ = [
    "Answer",
    "Bundle",
    "Classifier",
    "Decision",
    "DecisionConfig",
    "State",
    "TransomError",
    "Zone",
    "load_bundle",
]

_HOMES = {
    "Answer": "edge_runtime.scripting",
    "Bundle": "transom.bundle",
    "Classifier": "edge_runtime.scripting",
    "Decision": "edge_runtime.scripting",
    "DecisionConfig": "transom.config",
    "State": "edge_runtime.scripting",
    "TransomError": "transom.errors",
    "Zone": "transom.geometry",
    "load_bundle": "transom.starter",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for (PEP 562)."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'transom' has no attribute {name!r}")
    value: object = getattr(importlib.import_module(home), name)
    globals()[name] = value  # from now on it is found without this
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
