"""What both sides agree on: tasks, zones, crops, data sets, bundles, messages, configuration."""

__version__ = "0.1.0"
