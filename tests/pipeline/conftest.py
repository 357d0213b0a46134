"""Fixtures of other folders that the pipeline's tests need too."""

from tests.edge_runtime.conftest import tiny_bundle

__all__ = ["tiny_bundle"]
