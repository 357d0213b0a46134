"""How two processors are compared: what counts as alike, and what does not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tools.arm64 import (
    FPS,
    NOISE_CROPS,
    check_here,
    compare_messages,
    compare_output,
    compare_transitions,
    write_case,
)

EVENT = (13.4, "transom/check/door/event", "opened", "open")


def output(name: str, values: list[list[float]]) -> dict[str, Any]:
    return {"logits": {name: values}, "sha256": {name: np.float32(values).tobytes().hex()}}


def test_logits_must_be_the_same_to_the_last_bit() -> None:
    here = output("state", [[1.0, 2.0], [3.0, 4.0]])
    there = output("state", [[1.0, 2.0], [3.0, float(np.nextafter(np.float32(4.0), 5.0))]])
    assert compare_output("state", here, here)[0]
    is_alike, lines = compare_output("state", here, there)
    assert not is_alike
    assert "1 of 2 rows the same" in lines[0]


@pytest.mark.parametrize(("there", "is_alike"), [(0.5 + 1.5e-8, True), (0.5 + 1e-5, False)])
def test_the_distance_may_be_added_up_in_another_order(there: float, *, is_alike: bool) -> None:
    here = output("distance", [[0.5]])
    assert compare_output("distance", here, output("distance", [[there]]))[0] is is_alike


@pytest.mark.parametrize(
    "theirs", [[], [(0.2, "topic", "b")], [(0.4, "topic", "a")], [(0.2, "topic", "a")] * 2]
)
def test_messages_about_equal_pictures_must_be_equal(theirs: list[Any]) -> None:
    ours = [(0.2, "topic", "a")]
    assert compare_messages(ours, ours)[0]
    assert not compare_messages(ours, theirs)[0]


@pytest.mark.parametrize(
    ("theirs", "is_alike"),
    [
        ('{"state":"open","confidence":0.9612}', True),
        ('{"state":"open","confidence":0.9514}', False),
        ('{"state":"ajar","confidence":0.9614}', False),
        ('{"state":"open"}', False),
    ],
)
def test_messages_about_equal_pictures_may_be_a_little_surer(
    theirs: str, *, is_alike: bool
) -> None:
    ours = [(0.2, "topic", '{"state":"open","confidence":0.9614}')]
    assert compare_messages(ours, [(0.2, "topic", theirs)])[0] is is_alike


@pytest.mark.parametrize(("frames", "is_alike"), [(0, True), (1, True), (-1, True), (2, False)])
def test_a_transition_in_a_video_may_come_a_frame_apart(frames: int, *, is_alike: bool) -> None:
    theirs = [(EVENT[0] + frames / FPS, *EVENT[1:])]
    assert compare_transitions([EVENT], theirs)[0] is is_alike


@pytest.mark.parametrize("theirs", [[], [EVENT, EVENT], [(*EVENT[:3], "ajar")]])
def test_transitions_in_a_video_must_be_the_same_ones(theirs: list[Any]) -> None:
    assert not compare_transitions([EVENT], theirs)[0]


def test_what_is_compared_is_a_case_that_the_check_accepts(tmp_path: Path) -> None:
    write_case(tmp_path)
    found = check_here(tmp_path)
    assert len(found["logits"]["state"]) >= NOISE_CROPS
    assert found["transitions"] != []
