"""What both sides agree on: tasks, zones, crops, data sets, bundles, messages, configuration."""

import os

__version__ = "0.1.0"

# Since 1.32 onnxruntime keeps a number of the device in its user's home and sends how it is used
# to its maker. It looks here when it is imported, which is after this.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
