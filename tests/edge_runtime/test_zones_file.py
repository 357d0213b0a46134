"""Zones written back into a configuration: whoever wrote the file finds the rest as it was."""

import codecs
from pathlib import Path

import pytest

from edge_runtime.web.asked import DrawnZone
from edge_runtime.web.zones_file import save_zones
from tests.edge_runtime.page import configuration_of
from tests.edge_runtime.test_daemon import DOOR

WINDOW = DrawnZone("window", ((0.1, 0.1), (0.3, 0.1), (0.3, 0.4), (0.1, 0.4)), "window")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_a_new_zone_has_the_line_ends_of_the_file(tmp_path: Path, end: str, mark: bytes) -> None:
    path = tmp_path / "transom.toml"
    path.write_bytes(mark + configuration_of({"door": DOOR}).replace("\n", end).encode())
    assert save_zones(path, "hall", [DrawnZone("door", DOOR), WINDOW]).saved
    found = path.read_bytes()
    assert found.startswith(mark)
    assert b"window" in found
    ends = found.count(b"\r\n") if end == "\r\n" else found.count(b"\n") - found.count(b"\r\n")
    assert ends == found.count(b"\n") == len(found.splitlines())
