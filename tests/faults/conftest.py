"""What tries a whole device uses what the daemon's tests use."""

from tests.edge_runtime.conftest import play_list_camera, scene, tiny_bundle

__all__ = ["play_list_camera", "scene", "tiny_bundle"]
