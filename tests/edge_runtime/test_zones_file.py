"""Zones written back into a configuration: whoever wrote the file finds the rest as it was."""

import codecs
from pathlib import Path

import pytest

from edge_runtime.web.asked import DrawnZone
from edge_runtime.web.zones_file import save_zones
from tests.edge_runtime.page import configuration_of
from tests.edge_runtime.test_daemon import DOOR
from transom.config import load_config
from transom.errors import PageError

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


HEAD = """\
device = "pi"

# the hall, by the stairs
[[cameras]]
name = "hall"
source = "usb:0"
"""
FRONT = """\

# to the street
[[cameras.zones]]
name = "front"
polygon = [[0.1, 0.1], [0.3, 0.1], [0.3, 0.4], [0.1, 0.4]]  # measured
# its handle is new
"""
BACK = """\

# to the yard
[[cameras.zones]]
name = "back"
polygon = [[0.5, 0.1], [0.7, 0.1], [0.7, 0.4], [0.5, 0.4]]

# it has a sensor
[cameras.zones.contact]
topic = "zigbee2mqtt/back"
"""
REST = """\

# ---- the yard

[[cameras]]
name = "yard"
source = "usb:1"
zones = [{ name = "gate", polygon = [[0.1, 0.1], [0.3, 0.1], [0.3, 0.4], [0.1, 0.4]] }]

# the broker, in the cellar
[mqtt]
host = "localhost"

[samples]

# the end
"""
SQUARE = ((0.1, 0.1), (0.3, 0.1), (0.3, 0.4), (0.1, 0.4))
ASIDE = ((0.5, 0.1), (0.7, 0.1), (0.7, 0.4), (0.5, 0.4))
NEW = """\

[[cameras.zones]]
name = "window"
device_class = "window"
polygon = [[0.1, 0.1], [0.3, 0.1], [0.3, 0.4], [0.1, 0.4]]
"""


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["front", "back"], HEAD + FRONT + BACK + REST),
        (["front"], HEAD + FRONT + REST),
        (["back"], HEAD + BACK + REST),
        (["front", "back", "window"], HEAD + FRONT + BACK + NEW + REST),
        (["window", "front"], HEAD + FRONT + NEW + REST),
        (["window"], HEAD + NEW + REST),
    ],
)
def test_a_comment_goes_and_stays_with_the_table_below_it(
    tmp_path: Path, names: list[str], expected: str
) -> None:
    path = tmp_path / "transom.toml"
    path.write_text(HEAD + FRONT + BACK + REST)
    shapes = {"front": SQUARE, "back": ASIDE}
    zones = [WINDOW if n == "window" else DrawnZone(n, shapes[n]) for n in names]
    assert save_zones(path, "hall", zones).saved
    assert path.read_text() == expected


def test_a_zone_that_is_moved_keeps_the_comments_around_it(tmp_path: Path) -> None:
    path = tmp_path / "transom.toml"
    path.write_text(HEAD + FRONT + BACK + REST)
    assert save_zones(path, "hall", [DrawnZone("front", ASIDE), DrawnZone("back", ASIDE)]).saved
    moved = "polygon = [[0.5, 0.1], [0.7, 0.1], [0.7, 0.4], [0.5, 0.4]]  # measured\n"
    lines = [moved if "# measured" in line else line for line in FRONT.splitlines(keepends=True)]
    assert path.read_text() == HEAD + "".join(lines) + BACK + REST


def test_zones_in_an_array_are_written_into_it(tmp_path: Path) -> None:
    path = tmp_path / "transom.toml"
    path.write_text(HEAD + FRONT + BACK + REST)
    assert save_zones(path, "yard", [DrawnZone("gate", ASIDE), WINDOW]).saved
    text = path.read_text()
    assert text.startswith(HEAD + FRONT + BACK)
    assert text.endswith(REST[REST.index("\n# the broker") :])
    zones = load_config(path).cameras[1].zones
    assert [(zone.name, zone.polygon) for zone in zones] == [("gate", ASIDE), ("window", SQUARE)]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('name = "back"\n', "", r"missing key `\$\.cameras\[0\]\.zones\[1\]\.name`"),
        (FRONT + BACK, "", r"missing key `\$\.cameras\[0\]\.zones`"),
        ('name = "hall"', 'name = "lobby"', "has no camera hall; it was changed since"),
        ('host = "localhost"', "host = ", "cannot be read"),
    ],
)
def test_a_file_that_was_changed_meanwhile_is_left_alone(
    tmp_path: Path, before: str, after: str, said: str
) -> None:
    text = (HEAD + FRONT + BACK + REST).replace(before, after)
    path = tmp_path / "transom.toml"
    path.write_text(text)
    with pytest.raises(PageError, match=rf"transom\.toml: .*{said}") as refused:
        save_zones(path, "hall", [DrawnZone("front", ASIDE)])
    assert refused.value.status == 409
    assert path.read_text() == text
