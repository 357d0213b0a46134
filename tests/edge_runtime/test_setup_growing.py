"""Cameras are added to a configuration's text, and every comment stays with what it belongs to."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.setup.growing import grown
from edge_runtime.toml_tables import join_tables, split_tables

NEW = """\
[[cameras]]
name = "yard"

[[cameras.zones]]
name = "gate"
"""

BEFORE = """\
# the hall
[[cameras]]
name = "hall"  # by the stairs

# the front door
[[cameras.zones]]
name = "door"
polygon = [
    [0.1, 0.1],
    [0.5, 0.1]
]
# of that door
"""

BROKER = """\
# the broker, in the cellar
[mqtt]  # encrypted
host = "localhost"
# the end
"""


def test_a_comment_above_the_next_table_stays_above_it() -> None:
    assert grown(f"{BEFORE}\n{BROKER}", NEW) == f"{BEFORE}\n{NEW}\n{BROKER}"


def test_a_comment_that_touches_the_next_table_stays_above_it_without_a_blank_line_too() -> None:
    camera = BEFORE.removesuffix("# of that door\n")
    assert grown(camera + BROKER, NEW) == f"{camera}\n{NEW}\n{BROKER}"


def test_a_comment_that_stands_alone_stays_with_what_follows() -> None:
    rest = f"# ---- broker\n\n{BROKER}"
    assert grown(f"{BEFORE}\n{rest}", NEW) == f"{BEFORE}\n{NEW}\n{rest}"


def test_at_the_end_of_a_file_the_camera_s_own_comment_stays_with_it() -> None:
    assert grown(f"{BROKER}\n{BEFORE}\n\n", NEW) == f"{BROKER}\n{BEFORE}\n{NEW}\n\n"
    end = "\n# [page]\n# port = 8380\n"
    assert grown(f"{BROKER}\n{BEFORE}{end}", NEW) == f"{BROKER}\n{BEFORE}\n{NEW}{end}"
    assert grown(f"{BROKER}\n{BEFORE}".removesuffix("\n"), NEW) == f"{BROKER}\n{BEFORE}\n{NEW}"


def test_the_line_ends_stay_those_of_the_file() -> None:
    text = grown(f"{BEFORE}\n{BROKER}".replace("\n", "\r\n"), NEW)
    assert text == f"{BEFORE}\n{NEW}\n{BROKER}".replace("\n", "\r\n")


@pytest.mark.parametrize(
    "value",
    ['"""\n[mqtt]\n# no comment\n[[cameras]]\n"""', "'''\n[page]\n'''", "[\n[1, 2],\n[3, 4]\n]"],
)
def test_what_looks_like_a_table_within_a_value_is_none(value: str) -> None:
    camera = f'[[cameras]]\nname = "hall"\nsource = {value}\n'
    assert grown(f"{camera}\n{BROKER}", NEW) == f"{camera}\n{NEW}\n{BROKER}"


_PIECES = [
    "# a comment\n", "\n", "[page]\nport = 80\n", "[models]\nstore = '''\n[x]\n#'''\n",
    "[[cameras]]\nname = 'a'\n", "[[cameras.zones]]\npolygon = [\n[1, 2],\n# within\n[3]\n]\n",
]  # fmt: skip


@given(st.lists(st.sampled_from(_PIECES), max_size=12))
def test_no_line_is_lost_and_the_new_camera_is_the_last(pieces: list[str]) -> None:
    text = "device = 'pi'\n[[cameras]]\nname = 'first'\n" + "".join(pieces)
    try:
        before = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert join_tables(split_tables(text)) == text
    new = grown(text, NEW)
    after = tomllib.loads(new)
    assert after.pop("cameras") == [*before.pop("cameras"), *tomllib.loads(NEW)["cameras"]]
    assert after == before
    left = iter(new.split("\n"))
    assert all(line in left for line in text.rstrip("\n").split("\n"))
